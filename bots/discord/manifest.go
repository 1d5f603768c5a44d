package discord

import (
	"fmt"
	"net/url"
	"strings"
)

// Permissions, as bits (Discord's documentation of permissions).
const (
	permAdministrator  = 1 << 3
	permAddReactions   = 1 << 6
	permViewChannel    = 1 << 10
	permSend           = 1 << 11
	permManageMessages = 1 << 13
	permAttach         = 1 << 15
	permHistory        = 1 << 16
	permManageThreads  = 1 << 34
	permOpenThreads    = 1 << 35
	permSendInThreads  = 1 << 38
)

// permission is one that the bot uses.
type permission struct {
	bit  uint64
	name string
}

// permissions are all that it uses.
func permissions() []permission {
	return []permission{
		{permViewChannel, "View Channels"},
		{permSend, "Send Messages"},
		{permOpenThreads, "Create Public Threads"},
		{permSendInThreads, "Send Messages in Threads"},
		{permAttach, "Attach Files"},
		{permHistory, "Read Message History"},
		{permAddReactions, "Add Reactions"},
	}
}

// Manifest is how to set the application up and invite the bot. appID is the
// application's id; without one its place is shown.
func Manifest(appID string) string {
	var bits uint64
	var names []string
	for _, p := range permissions() {
		bits |= p.bit
		names = append(names, p.name)
	}
	id := url.QueryEscape(appID)
	if appID == "" {
		id = "YOUR_APPLICATION_ID"
	}
	return fmt.Sprintf(`1. https://discord.com/developers/applications → New Application.
2. Bot → Reset Token: that is DISCORD_BOT_TOKEN.
3. Bot → Privileged Gateway Intents → Message Content Intent: on.
   Without it the bot hears mentions, direct messages and commands alone.
   The other two intents stay off.
4. Installation → Install Link: None; Installation Contexts: Guild Install.
5. Invite the bot to your server:
   https://discord.com/oauth2/authorize?client_id=%s&scope=bot+applications.commands&permissions=%d
   That gives it: %s.
`, id, bits, strings.Join(names, ", "))
}
