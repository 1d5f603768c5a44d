package discord

import "github.com/bwmarrin/discordgo"

// Types of components that discordgo v0.29.0 doesn't have.
const labelComponent discordgo.ComponentType = 18

// component is any of Discord's: what is empty is left out. discordgo's types
// have no id for a text, and no labels, without which a modal is deprecated.
type component struct {
	Type       discordgo.ComponentType `json:"type"`
	ID         int                     `json:"id,omitempty"`
	Content    string                  `json:"content,omitempty"`      // of a text
	Accent     int                     `json:"accent_color,omitempty"` // of a container
	Items      []galleryItem           `json:"items,omitempty"`
	File       *mediaRef               `json:"file,omitempty"`
	Style      int                     `json:"style,omitempty"` // of a button, of a text input
	Label      string                  `json:"label,omitempty"`
	CustomID   string                  `json:"custom_id,omitempty"`
	MaxLength  int                     `json:"max_length,omitempty"`
	Options    []selectOption          `json:"options,omitempty"`
	Component  *component              `json:"component,omitempty"` // of a label
	Components []component             `json:"components,omitempty"`

	// In what a modal sends back.
	Value  string   `json:"value,omitempty"`
	Values []string `json:"values,omitempty"`
}

type galleryItem struct {
	Media       mediaRef `json:"media"`
	Description string   `json:"description,omitempty"`
}

type mediaRef struct {
	URL string `json:"url"`
}

type selectOption struct {
	Label   string `json:"label"`
	Value   string `json:"value"`
	Default bool   `json:"default,omitempty"`
}
