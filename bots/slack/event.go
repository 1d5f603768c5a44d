package slack

import (
	"bytes"
	"encoding/json"
)

// The types below read Slack's JSON. A field of an unexpected kind is as if it
// were not there, so that one odd field can't lose an event: slack-go's parser
// drops an event whose ts is a number.

// word is a string, or a number in its own spelling.
type word string

func (w *word) UnmarshalJSON(data []byte) error {
	var s string
	switch {
	case json.Unmarshal(data, &s) == nil:
		*w = word(s)
	case len(data) > 0 && (data[0] == '-' || data[0] >= '0' && data[0] <= '9'):
		*w = word(data)
	}
	return nil
}

// yes is a boolean.
type yes bool

func (y *yes) UnmarshalJSON(data []byte) error {
	*y = yes(bytes.Equal(data, []byte("true")))
	return nil
}

// count is a whole number, 0 where it is none.
type count int64

func (c *count) UnmarshalJSON(data []byte) error {
	var n int64
	if json.Unmarshal(data, &n) == nil {
		*c = count(n)
	}
	return nil
}

// object is a nested object, nil where there is none.
type object[T any] struct{ v *T }

func (o *object[T]) UnmarshalJSON(data []byte) error {
	var v T
	if len(data) > 0 && data[0] == '{' && json.Unmarshal(data, &v) == nil {
		o.v = &v
	}
	return nil
}

// get is the object, empty where there is none.
func (o object[T]) get() (v T) {
	if o.v != nil {
		v = *o.v
	}
	return v
}

// list holds those elements that can be read.
type list[T any] []T

func (l *list[T]) UnmarshalJSON(data []byte) error {
	var raw []json.RawMessage
	if json.Unmarshal(data, &raw) != nil {
		return nil
	}
	for _, r := range raw {
		var v T
		if json.Unmarshal(r, &v) == nil {
			*l = append(*l, v)
		}
	}
	return nil
}

// envelope is what an event comes in, over either transport.
type envelope struct {
	Type        word         `json:"type"`
	Challenge   word         `json:"challenge"`
	TeamID      word         `json:"team_id"`
	AppID       word         `json:"api_app_id"`
	EventID     word         `json:"event_id"`
	IsExtShared yes          `json:"is_ext_shared_channel"`
	Event       object[body] `json:"event"`
}

// body is an event: a message for the most part.
type body struct {
	message
	Channel     word            `json:"channel"`
	ChannelType word            `json:"channel_type"`
	DeletedTS   word            `json:"deleted_ts"`
	Message     object[message] `json:"message"`
	Previous    object[message] `json:"previous_message"`
	Tab         word            `json:"tab"`
}

// message is a message, in an event or in a conversation's history.
type message struct {
	Type     word           `json:"type"`
	Subtype  word           `json:"subtype"`
	User     word           `json:"user"`
	BotID    word           `json:"bot_id"`
	Text     word           `json:"text"`
	TS       word           `json:"ts"`
	ThreadTS word           `json:"thread_ts"`
	Files    list[fileRef]  `json:"files"`
	Edited   object[edited] `json:"edited"`
}

type edited struct {
	TS word `json:"ts"`
}

// root is the ts of the first message of the message's thread.
func (m message) root() string {
	if m.ThreadTS != "" {
		return string(m.ThreadTS)
	}
	return string(m.TS)
}

// fileRef is a file as messages and files.info name it.
type fileRef struct {
	ID         word  `json:"id"`
	Name       word  `json:"name"`
	Title      word  `json:"title"`
	MIME       word  `json:"mimetype"`
	Filetype   word  `json:"filetype"`
	Size       count `json:"size"`
	Mode       word  `json:"mode"`
	Access     word  `json:"file_access"`
	IsExternal yes   `json:"is_external"`
	URL        word  `json:"url_private"`
	Download   word  `json:"url_private_download"`
}

// interaction is a press of a button, or a shortcut.
type interaction struct {
	Type        word              `json:"type"`
	CallbackID  word              `json:"callback_id"`
	ActionTS    word              `json:"action_ts"`
	MessageTS   word              `json:"message_ts"`
	ResponseURL word              `json:"response_url"`
	Team        object[named]     `json:"team"`
	User        object[named]     `json:"user"`
	Channel     object[named]     `json:"channel"`
	Container   object[container] `json:"container"`
	Message     object[message]   `json:"message"`
	Actions     list[pressed]     `json:"actions"`
}

type named struct {
	ID   word `json:"id"`
	Team word `json:"team_id"`
}

type container struct {
	Channel  word `json:"channel_id"`
	TS       word `json:"message_ts"`
	ThreadTS word `json:"thread_ts"`
}

type pressed struct {
	ID    word `json:"action_id"`
	Value word `json:"value"`
	TS    word `json:"action_ts"`
}

// slash is a slash command.
type slash struct {
	Team    word `json:"team_id"`
	User    word `json:"user_id"`
	Channel word `json:"channel_id"`
	Text    word `json:"text"`
	Trigger word `json:"trigger_id"`
}
