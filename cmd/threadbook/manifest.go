package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"threadbook/bots/discord"
	"threadbook/bots/slack"
)

// manifestCommand prints what a chat platform has to be told of the bot.
func manifestCommand() *cobra.Command {
	return &cobra.Command{
		Use: "manifest slack|discord",
		Short: "The Slack app's manifest, for the Events API where THREADBOOK_PUBLIC_URL is set and Socket Mode else; " +
			"or Discord's invite link and switches",
		ValidArgs: []string{slack.Platform, discord.Platform},
		Args:      usageArgs(cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)),
		RunE: func(cmd *cobra.Command, args []string) error {
			// Who sets a platform up has not set all of its variables yet, and
			// neither command needs them.
			url, _, err := settingOf("THREADBOOK_PUBLIC_URL", os.Environ(), cmd.Flags())
			if err != nil {
				return err
			}
			if args[0] == slack.Platform {
				manifest, err := slack.Manifest(url)
				if err != nil {
					return err
				}
				fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace(string(manifest)))
				return nil
			}
			token, _, err := settingOf("DISCORD_BOT_TOKEN", os.Environ(), cmd.Flags())
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace(discord.Manifest(appID(token))))
			return nil
		},
	}
}

// appID is the application's id, which is a Discord token's first part; empty
// where it can't be read.
func appID(token string) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(token, "Bot "), ".")
	id, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(first, "="))
	if err != nil || len(id) < 15 || strings.Trim(string(id), "0123456789") != "" {
		return ""
	}
	return string(id)
}
