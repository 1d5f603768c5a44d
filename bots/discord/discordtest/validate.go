package discordtest

import (
	"encoding/json"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Permissions that a channel can deny.
const (
	permReact   = 1 << 6
	permView    = 1 << 10
	permSend    = 1 << 11
	permAttach  = 1 << 15
	permThreads = 1 << 35
	permInside  = 1 << 38

	allPermissions = 1<<52 - 1 - 1<<3 // all but the administrator's
)

const (
	flagNoEmbeds   = 1 << 2
	flagEphemeral  = 1 << 6
	flagComponents = 1 << 15
)

// Limits, from Discord's documentation; the 4,000 from its community's.
const (
	maxContent    = 2000
	maxTexts      = 4000
	maxComponents = 40
	maxFiles      = 10
	maxNonce      = 25
)

// v2 are the types that need the flag; containers hold some of them.
var v2 = map[int]bool{9: true, 10: true, 11: true, 12: true, 13: true, 14: true, 17: true}

// checker looks at a message's components.
type checker struct {
	flags  int
	names  map[string]bool // of the files
	count  int
	texts  int
	ids    map[float64]bool
	custom map[string]bool
}

func (c *checker) check(list []any, inside string) *refusal {
	for _, item := range list {
		m, ok := item.(map[string]any)
		if !ok {
			return invalid("a component that is no object")
		}
		kind, ok := m["type"].(float64)
		if !ok {
			return invalid("a component without a type")
		}
		if v2[int(kind)] && c.flags&flagComponents == 0 {
			return invalid("components[].type: must be one of 1 without the components flag")
		}
		c.count++
		if id, ok := m["id"].(float64); ok {
			if c.ids[id] || id < 0 || id >= 1<<31 {
				return invalid("components[].id: %v is taken or out of range", id)
			}
			c.ids[id] = true
		}
		if ref := c.one(int(kind), m, inside); ref != nil {
			return ref
		}
	}
	if inside == "" && (c.count > maxComponents || c.texts > maxTexts) {
		return invalid("components: %d components of %d, %d characters of %d", c.count, maxComponents, c.texts, maxTexts)
	}
	return nil
}

func (c *checker) one(kind int, m map[string]any, inside string) *refusal {
	inner, _ := m["components"].([]any)
	switch kind {
	case 1:
		if len(inner) == 0 || len(inner) > 5 {
			return invalid("an action row of %d components", len(inner))
		}
		return c.check(inner, "row")
	case 2:
		label, _ := m["label"].(string)
		id, _ := m["custom_id"].(string)
		style, _ := m["style"].(float64)
		if inside != "row" || utf8.RuneCountInString(label) > 80 || label == "" || id == "" || utf8.RuneCountInString(id) > 100 || c.custom[id] || style < 1 || style > 4 {
			return invalid("a button %q with the custom id %q, style %v, in %q", label, id, style, inside)
		}
		c.custom[id] = true
	case 10:
		text, _ := m["content"].(string)
		if text == "" || inside == "row" {
			return invalid("an empty text")
		}
		c.texts += utf8.RuneCountInString(text)
	case 12:
		items, _ := m["items"].([]any)
		if len(items) == 0 || len(items) > 10 {
			return invalid("a gallery of %d items", len(items))
		}
		for _, it := range items {
			it, _ := it.(map[string]any)
			if text, _ := it["description"].(string); utf8.RuneCountInString(text) > 1024 {
				return invalid("a description that is too long")
			}
			if ref := c.media(it["media"]); ref != nil {
				return ref
			}
		}
	case 13:
		return c.media(m["file"])
	case 14:
	case 17:
		if inside != "" || len(inner) == 0 {
			return invalid("a container in %q with %d components", inside, len(inner))
		}
		return c.check(inner, "container")
	default:
		return invalid("components[].type: %d is not known", kind)
	}
	return nil
}

func (c *checker) media(m any) *refusal {
	ref, _ := m.(map[string]any)
	address, _ := ref["url"].(string)
	if name, ok := strings.CutPrefix(address, "attachment://"); ok {
		if !c.names[name] {
			return invalid("attachment://%s: there is no such attachment", name)
		}
		return nil
	}
	if !strings.HasPrefix(address, "http") {
		return invalid("a media item without an address")
	}
	return nil
}

var commandName = regexp.MustCompile(`^[-_a-z0-9]{1,32}$`)

// validCommands checks a list of commands.
func validCommands(data json.RawMessage) ([]map[string]any, *refusal) {
	var list []map[string]any
	if json.Unmarshal(data, &list) != nil {
		return nil, invalid("the commands are no list")
	}
	counts := map[float64]int{}
	for _, c := range list {
		name, _ := c["name"].(string)
		kind, _ := c["type"].(float64)
		description, _ := c["description"].(string)
		counts[kind]++
		switch {
		case kind == 1 && (!commandName.MatchString(name) || description == "" || utf8.RuneCountInString(description) > 100):
			return nil, invalid("the command %q, %q", name, description)
		case kind == 3 && (description != "" || name == "" || utf8.RuneCountInString(name) > 32):
			return nil, invalid("the message command %q, %q", name, description)
		case kind != 1 && kind != 3:
			return nil, invalid("a command of type %v", kind)
		}
		options, _ := c["options"].([]any)
		for _, o := range options {
			o, _ := o.(map[string]any)
			name, _ := o["name"].(string)
			text, _ := o["description"].(string)
			if !commandName.MatchString(name) || text == "" || utf8.RuneCountInString(text) > 100 {
				return nil, invalid("the option %q of %q", name, c["name"])
			}
		}
	}
	if counts[1] > 100 || counts[3] > 15 {
		return nil, invalid("too many commands")
	}
	return list, nil
}
