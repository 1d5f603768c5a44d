package discord

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/bwmarrin/discordgo"

	"threadbook/bots"
)

// Discord's limits on a message.
const (
	maxContent  = 2000 // characters of a plain message
	maxTexts    = 4000 // characters of all text of a Components V2 message
	maxMedia    = 10   // attachments of a message, items of a gallery
	maxButtons  = 5    // in a row
	maxLabel    = 80   // characters of a button's
	maxCustomID = 100
	maxAlt      = 1024 // characters of an attachment's description
	maxCells    = 8    // shown in a live post, the last ones
)

// Flags of a message.
const (
	flagNoEmbeds     = int(discordgo.MessageFlagsSuppressEmbeds)
	flagEphemeral    = int(discordgo.MessageFlagsEphemeral)
	flagComponentsV2 = int(discordgo.MessageFlagsIsComponentsV2)
)

// mentionNobody is allowed_mentions as it has to look: discordgo's zero value
// says null, which allows all.
type mentionNobody struct {
	Parse []string `json:"parse"`
}

var noMentions = mentionNobody{Parse: []string{}}

// payload is a message to be made, or its new form.
type payload struct {
	Flags       int           `json:"flags"`
	Components  []component   `json:"components"`
	Mentions    mentionNobody `json:"allowed_mentions"`
	Attachments []sentFile    `json:"attachments"`
	Nonce       string        `json:"nonce,omitempty"`
	Enforce     bool          `json:"enforce_nonce,omitempty"`
}

// sentFile is an attachment: one that is sent with this request, by its place
// in the form, or one that the message has, by its id.
type sentFile struct {
	ID          string `json:"id"`
	Filename    string `json:"filename,omitempty"`
	Description string `json:"description,omitempty"`
}

// nonceOf is a key as short as a nonce may be: 25 characters.
func nonceOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return base64.RawURLEncoding.EncodeToString(sum[:])[:25]
}

// markBit is set in the ids that we give to a message's first component, and
// in none that Discord counts out itself.
const markBit = 1 << 30

// markOf is a post's key as a component's id.
func markOf(key string) int {
	sum := sha256.Sum256([]byte(key))
	return markBit | int(binary.BigEndian.Uint32(sum[:])&(markBit-1))
}

// Colours of a live post's edge.
const (
	colourRunning = 0x5865F2
	colourOK      = 0x3BA55D
	colourFailed  = 0xED4245
)

// options are what a rendering depends on beside the post.
type options struct {
	fileSize int64
	link     func(bots.Media) string
}

// rendered is a post as Discord takes it; the files are in the order of the
// payload's attachments.
type rendered struct {
	payload payload
	files   []bots.Media
}

// render makes a message of a post. It is pure.
func render(p bots.Post, o options) rendered {
	r := renderer{room: maxTexts, names: map[string]bool{}, o: o}
	// Small print and what stands in for files come last and are short, so
	// they are given room first.
	status, figures, files := r.small(p.Status), r.media(p.Figures), r.media(slices.Concat(p.Files, overflow(p)))
	omitted := r.text(strings.Join(r.omitted, "\n"))
	r.add(r.text(defuseInto(p.Text, r.room)))
	r.cells(p)
	for _, t := range p.Tables {
		r.add(r.table(t))
	}
	if len(figures) > 0 {
		gallery := component{Type: discordgo.MediaGalleryComponent}
		for _, f := range figures {
			gallery.Items = append(gallery.Items, galleryItem{Media: mediaRef{"attachment://" + f.Filename}, Description: f.Description})
		}
		r.list = append(r.list, gallery)
	}
	for _, f := range files {
		r.list = append(r.list, component{Type: discordgo.FileComponentType, File: &mediaRef{"attachment://" + f.Filename}})
	}
	r.add(omitted)
	r.add(status)
	r.buttons(p.Buttons)
	if len(r.list) == 0 {
		r.add(r.text(hide))
	}
	r.list[0].ID = markOf(p.Key())
	return rendered{payload{
		Flags: flagComponentsV2 | flagNoEmbeds, Components: r.list, Mentions: noMentions,
		Attachments: append([]sentFile{}, append(figures, files...)...),
	}, r.sent}
}

// overflow is a post's text as a file, where pings and links to be defused make
// more of it than a message takes. Its blob is named by what is in it.
func overflow(p bots.Post) []bots.Media {
	if utf8.RuneCountInString(defuseInto(p.Text, postText)) <= postText {
		return nil
	}
	sum := sha256.Sum256([]byte(p.Text))
	return []bots.Media{{Name: "whole-text.md", MIME: "text/markdown", Size: int64(len(p.Text)), Blob: hex.EncodeToString(sum[:])}}
}

type renderer struct {
	list    []component
	room    int // characters of text left
	names   map[string]bool
	sent    []bots.Media
	omitted []string // what is said in place of files
	o       options
}

// text makes a text of what there is room for, "" for none.
func (r *renderer) text(s string) string {
	if strings.TrimSpace(s) == "" {
		return ""
	}
	s = clamp(s, r.room)
	r.room -= utf8.RuneCountInString(s)
	return s
}

func (r *renderer) add(s string) {
	if s != "" {
		r.list = append(r.list, component{Type: discordgo.TextDisplayComponent, Content: s})
	}
}

// small is a line of small print.
func (r *renderer) small(s string) string {
	if strings.TrimSpace(s) == "" {
		return ""
	}
	return r.text("-# " + strings.Join(strings.Fields(defuse(s)), " "))
}

// cells shows code and output in one frame, whose colour says how it stands.
func (r *renderer) cells(p bots.Post) {
	cells := p.Cells[max(0, len(p.Cells)-maxCells):]
	if len(cells) == 0 {
		return
	}
	colour := colourOK
	box := component{Type: discordgo.ContainerComponent}
	for i, c := range cells {
		// As the presenter does it: what a cell leaves over is the next ones'.
		share := r.room / (len(cells) - i)
		if c.Status != "" && c.Status != "ok" {
			colour = colourFailed
		}
		before := r.room
		r.room = min(r.room, share)
		started := r.room
		for _, s := range cellTexts(c, share) {
			if s = r.text(s); s != "" {
				box.Components = append(box.Components, component{Type: discordgo.TextDisplayComponent, Content: s})
			}
		}
		r.room = before - (started - r.room)
	}
	if p.Running {
		colour = colourRunning
	}
	box.Accent = colour
	r.list = append(r.list, box)
}

// cellTexts are a cell's head with its code, and its output.
func cellTexts(c bots.Cell, share int) []string {
	head := fmt.Sprintf("**Cell %d** · %s", c.Number, escapeLine(c.Language))
	if c.Status != "" {
		head += " · " + strings.ReplaceAll(escapeLine(c.Status), `\_`, " ")
	}
	if c.Seconds > 0 {
		head += " · " + strconv.FormatFloat(c.Seconds, 'f', 1, 64) + " s"
	}
	if strings.TrimSpace(c.Code) != "" {
		head += "\n" + fence(c.Language, c.Code)
	}
	texts := []string{head}
	if strings.TrimSpace(c.Output) != "" {
		// The end of an output says most: where both don't fit, the code yields.
		out := fence("", c.Output)
		if n := utf8.RuneCountInString(out); n < share {
			texts[0] = clamp(head, max(share-n, share/3))
		} else {
			texts[0] = clamp(head, share/3)
		}
		texts = append(texts, out)
	}
	return texts
}

// media says how pictures or files are sent, and notes those that can't be.
func (r *renderer) media(list []bots.Media) []sentFile {
	var sent []sentFile
	for _, m := range list {
		why := ""
		switch {
		case m.Size > r.o.fileSize:
			why = "it has " + size(m.Size) + ", which is more than Discord takes here"
		case len(r.sent) >= maxMedia:
			why = fmt.Sprintf("a message has at most %d files", maxMedia)
		default:
			sent = append(sent, sentFile{ID: strconv.Itoa(len(r.sent)), Filename: r.fileName(m.Name), Description: clampPlain(m.Alt, maxAlt)})
			r.sent = append(r.sent, m)
			continue
		}
		line := "📎 " + escapeLine(m.Name) + " is not attached: " + why + "."
		if link := r.o.link(m); link != "" {
			line += " Download: <" + link + ">"
		}
		r.omitted = append(r.omitted, line)
	}
	return sent
}

// fileName makes a name that Discord keeps as it is, since components refer to
// a file by it; no two files of a message have the same.
func (r *renderer) fileName(name string) string {
	name = strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '-', c == '_':
			return c
		}
		return '_'
	}, bots.CleanFileName(name))
	if name = strings.TrimLeft(name, "."); strings.Trim(name, "_.") == "" {
		name = "file" + path.Ext(name)
	}
	const most = 100
	ext := path.Ext(name)
	if len(name) > most {
		name = name[:most-min(len(ext), 10)] + ext[:min(len(ext), 10)]
	}
	base := strings.TrimSuffix(name, ext)
	for i := 2; r.names[name]; i++ {
		name = fmt.Sprintf("%s_%d%s", base, i, ext)
	}
	r.names[name] = true
	return name
}

// table is a small table in a fence, its columns lined up.
func (r *renderer) table(t bots.Table) string {
	head := ""
	if t.Caption != "" {
		head = "**" + escapeLine(t.Caption) + "**\n"
	}
	return r.text(head + fence("", columns(append([][]string{t.Header}, t.Rows...), true)))
}

func (r *renderer) buttons(list []bots.Button) {
	row := component{Type: discordgo.ActionsRowComponent}
	for _, b := range list {
		id := customID(b.Action, b.Value)
		if len(id) > maxCustomID || len(row.Components) == maxButtons {
			continue
		}
		style := discordgo.SecondaryButton
		switch {
		case b.Danger:
			style = discordgo.DangerButton
		case b.Action == bots.ActionAnswer:
			style = discordgo.PrimaryButton
		}
		row.Components = append(row.Components, component{Type: discordgo.ButtonComponent, Label: clampPlain(b.Label, maxLabel), Style: int(style), CustomID: id})
	}
	if len(row.Components) > 0 {
		r.list = append(r.list, row)
	}
}

// customPrefix begins the custom ids of our buttons.
const customPrefix = "tb:"

func customID(a bots.Action, value string) string { return customPrefix + string(a) + ":" + value }

// clampPlain cuts a text without markup.
func clampPlain(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:max(0, most-1)]) + "…"
}

// size is a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<20:
		return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) + " MiB"
	case n >= 1<<10:
		return strconv.FormatFloat(float64(n)/(1<<10), 'f', 1, 64) + " KiB"
	}
	return strconv.FormatInt(n, 10) + " bytes"
}
