package discord

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// Finding is one line of what Check found.
type Finding struct {
	OK   bool
	Text string // what is right, or what is wrong and how to mend it
}

const (
	maxGuildsChecked   = 20
	maxChannelsChecked = 200 // of a server
)

// Check asks Discord whether the bot can work: its token, its intents, and its
// permissions in each channel. It changes nothing.
func Check(ctx context.Context, cfg Config) []Finding {
	d, err := New(cfg)
	if err != nil {
		return []Finding{{false, err.Error()}}
	}
	me, err := d.identity(ctx)
	switch {
	case unauthorized(err):
		return []Finding{{false, errToken.Error()}}
	case err != nil:
		return []Finding{{false, "Discord does not answer: " + err.Error()}}
	}
	found := []Finding{{true, "the token is good: the bot is " + me.Name}}
	if me.Content {
		found = append(found, Finding{true, "the message content intent is on"})
	} else {
		found = append(found, Finding{false, "the message content intent is off: the bot hears mentions, direct messages and commands alone; switch it on in the developer portal under Bot"})
	}
	if address, err := d.gatewayAddress(ctx); err != nil {
		found = append(found, Finding{false, "no gateway: " + err.Error()})
	} else {
		found = append(found, Finding{true, "the gateway is " + address})
	}
	var guilds []guild
	if err := d.api.do(ctx, "GET", "users/@me/guilds", nil, &guilds); err != nil {
		return append(found, Finding{false, "the bot's servers can't be listed: " + err.Error()})
	}
	if len(guilds) == 0 {
		return append(found, Finding{false, "the bot is in no server; `threadbook manifest discord` prints the link that invites it"})
	}
	for _, g := range guilds[:min(len(guilds), maxGuildsChecked)] {
		found = append(found, d.checkGuild(ctx, me, g.ID)...)
	}
	return found
}

// checkGuild checks each text channel of a server.
func (d *Discord) checkGuild(ctx context.Context, me identity, id string) []Finding {
	var g guild
	var self member
	var channels []channel
	for _, ask := range []struct {
		path string
		into any
	}{{"guilds/" + id, &g}, {"guilds/" + id + "/members/" + me.User, &self}, {"guilds/" + id + "/channels", &channels}} {
		if err := d.api.do(ctx, "GET", ask.path, nil, ask.into); err != nil {
			return []Finding{{false, fmt.Sprintf("server %s can't be looked at: %v", id, err)}}
		}
	}
	g.ID = id
	var found []Finding
	good := 0
	for _, c := range channels[:min(len(channels), maxChannelsChecked)] {
		if !c.hasThreads() {
			continue
		}
		has := permissionsIn(g, self, me.User, c)
		var lacks []string
		for _, p := range permissions() {
			if has&p.bit == 0 {
				lacks = append(lacks, p.name)
			}
		}
		switch {
		case len(lacks) == 0:
			good++
		case has&permViewChannel == 0: // a channel that is not for the bot
		default:
			found = append(found, Finding{false, fmt.Sprintf("%s, #%s: the bot lacks %s", g.Name, c.Name, strings.Join(lacks, ", "))})
		}
	}
	return append(found, Finding{good > 0, fmt.Sprintf("%s: %d channels in which the bot has all that it needs", g.Name, good)})
}

// permissionsIn computes permissions as Discord's documentation does: roles,
// then the channel's overwrites for everyone, for roles, and for the member.
func permissionsIn(g guild, m member, user string, c channel) uint64 {
	number := func(s string) uint64 {
		n, _ := strconv.ParseUint(s, 10, 64)
		return n
	}
	if g.Owner == user {
		return ^uint64(0)
	}
	mine := map[string]bool{}
	for _, r := range m.Roles {
		mine[r] = true
	}
	var has uint64
	for _, r := range g.Roles {
		if r.ID == g.ID || mine[r.ID] {
			has |= number(r.Permissions)
		}
	}
	if has&permAdministrator != 0 {
		return ^uint64(0)
	}
	var allow, deny uint64
	for _, o := range c.Overwrites {
		if o.ID == g.ID {
			has = has&^number(o.Deny) | number(o.Allow)
		}
	}
	for _, o := range c.Overwrites {
		if mine[o.ID] && o.ID != g.ID {
			allow |= number(o.Allow)
			deny |= number(o.Deny)
		}
	}
	has = has&^deny | allow
	for _, o := range c.Overwrites {
		if o.ID == user {
			has = has&^number(o.Deny) | number(o.Allow)
		}
	}
	return has
}
