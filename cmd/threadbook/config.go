package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/spf13/pflag"

	"threadbook/sandbox"
	"threadbook/sessions/blobs"
	"threadbook/sessions/redisstore"
)

// Config is all that can be set, by environment variables; each has a flag
// and a file twin made from its tags. The tags beside env's own: help is its
// line in "threadbook help config"; secret keeps its value out of every
// message; oneof lists its only values; min is its smallest.
type Config struct {
	RedisURL string `env:"REDIS_URL" secret:"true" help:"Redis: redis://, rediss://, redis-sentinel:// or unix://. Empty: a private redis-server child with its append-only file under THREADBOOK_DATA; where there is no such program, an in-process server that forgets at exit."`

	OpenAIKey     string `env:"OPENAI_API_KEY" secret:"true" help:"Key of the model's server. Without a key and a base URL: direct mode, cells only."`
	OpenAIBaseURL string `env:"OPENAI_BASE_URL" help:"Any server with the chat completions API, such as http://127.0.0.1:11434/v1. Empty: OpenAI's."`
	OpenAIModel   string `env:"OPENAI_MODEL" envDefault:"gpt-5" help:"The model's name at its server."`

	SlackBotToken      string `env:"SLACK_BOT_TOKEN" secret:"true" help:"Switches Slack on: the app's bot token, xoxb-…; threadbook manifest slack makes the app."`
	SlackAppToken      string `env:"SLACK_APP_TOKEN" secret:"true" help:"Socket Mode: the app-level token, xapp-…, with connections:write."`
	SlackSigningSecret string `env:"SLACK_SIGNING_SECRET" secret:"true" help:"The Events API over HTTP: the app's signing secret. One of the two, or both."`
	SlackAPIURL        string `env:"SLACK_API_URL" envDefault:"https://slack.com/api/" help:"Slack's Web API, for tests and proxies."`
	DiscordBotToken    string `env:"DISCORD_BOT_TOKEN" secret:"true" help:"Switches Discord on: the bot's token; threadbook manifest discord says how to invite it."`
	DiscordAPIURL      string `env:"DISCORD_API_URL" envDefault:"https://discord.com/api/v9/" help:"Discord's API, for tests and proxies."`

	Addr      string `env:"THREADBOOK_ADDR" envDefault:"127.0.0.1:8080" help:"Where the HTTP listener listens."`
	PublicURL string `env:"THREADBOOK_PUBLIC_URL" help:"Where users reach that listener, such as https://threadbook.example.org; needed for download links."`
	WebToken  string `env:"THREADBOOK_WEB_TOKEN" secret:"true" help:"The page's password. Empty: the page is served on loopback addresses alone."`
	Host      string `env:"THREADBOOK_HOST" help:"Name of this machine among those that share REDIS_URL. Processes of one machine and engine must have the same; in containers, which get a new name each time, set it. Empty: the machine's own."`
	Data      string `env:"THREADBOOK_DATA" envDefault:"./data" help:"Files and figures: a folder, which also holds the private Redis, or s3://bucket/prefix?endpoint=https://host:port&region=R&path-style=true with credentials from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE, or the machine's role) and REDIS_URL set. All but the bucket may be left out."`

	SandboxImage   string  `env:"THREADBOOK_SANDBOX_IMAGE" envDefault:"threadbook/sandbox:latest" help:"Image of the sandboxes."`
	SandboxRuntime string  `env:"THREADBOOK_SANDBOX_RUNTIME" envDefault:"auto" help:"Their OCI runtime: threadbook, runsc, runc, or auto, the first of these that the engine has."`
	SandboxMemory  size    `env:"THREADBOOK_SANDBOX_MEMORY" envDefault:"1g" min:"128m" help:"Memory of one sandbox."`
	SandboxCPUs    float64 `env:"THREADBOOK_SANDBOX_CPUS" envDefault:"1" min:"0.1" help:"Cores of one sandbox."`
	SandboxPIDs    int64   `env:"THREADBOOK_SANDBOX_PIDS" envDefault:"256" min:"16" help:"Processes and threads of the code in one sandbox."`
	SandboxDisk    size    `env:"THREADBOOK_SANDBOX_DISK" envDefault:"2g" min:"16m" help:"Disk of one sandbox."`
	SandboxNetwork string  `env:"THREADBOOK_SANDBOX_NETWORK" envDefault:"none" help:"none, or the name of a Docker network that leads to an egress proxy."`
	Pool           int     `env:"THREADBOOK_POOL" envDefault:"2" min:"0" help:"Warm sandboxes kept ready."`

	HibernateAfter time.Duration `env:"THREADBOOK_HIBERNATE_AFTER" envDefault:"10m" min:"1s" help:"How long a thread is idle until its sandbox is put to disk."`
	Ship           bool          `env:"THREADBOOK_SHIP" envDefault:"false" help:"Copy every sandbox that was put to disk into THREADBOOK_DATA as well, so that a thread whose machine dies goes on on another one with its variables. It costs some 30 MB a thread there and in traffic each time (more with more state), and a few seconds of a core; it needs a THREADBOOK_DATA that all machines share, and on all of them the same sandbox image, limits and gVisor. A host that drains (worker --drain) does it in any case."`
	ExpireAfter    time.Duration `env:"THREADBOOK_EXPIRE_AFTER" envDefault:"720h" min:"1m" help:"How long until it is removed."`

	CellTimeout time.Duration `env:"THREADBOOK_CELL_TIMEOUT" envDefault:"120s" min:"1s" help:"How long a cell may run until it is interrupted."`
	TurnTimeout time.Duration `env:"THREADBOOK_TURN_TIMEOUT" envDefault:"15m" min:"1s" help:"How long a turn may take."`
	TurnSteps   int           `env:"THREADBOOK_TURN_STEPS" envDefault:"25" min:"1" help:"Replies of the model in one turn."`
	Concurrency int           `env:"THREADBOOK_CONCURRENCY" min:"0" help:"Turns at once in a worker. Empty: twice the cores."`

	LogLevel  string `env:"THREADBOOK_LOG_LEVEL" envDefault:"info" oneof:"debug info warn error" help:"Least level of what is logged."`
	LogFormat string `env:"THREADBOOK_LOG_FORMAT" oneof:"text json" help:"text or json. Empty: text on a terminal, else json."`

	Demo bool `env:"THREADBOOK_DEMO" envDefault:"false" help:"Prepare a first thread with a data set and three questions; without a model, a scripted one answers those."`
}

// size is a number of bytes, written as 512m or 2g.
type size int64

func parseSize(text string) (size, error) {
	digits, unit := strings.ToLower(strings.TrimSpace(text)), int64(1)
	digits = strings.TrimSuffix(strings.TrimSuffix(digits, "b"), "i")
	for suffix, n := range map[string]int64{"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40} {
		if d, ok := strings.CutSuffix(digits, suffix); ok {
			digits, unit = d, n
		}
	}
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || n < 0 || n*float64(unit) > 1<<60 {
		return 0, fmt.Errorf("%q is no size", text)
	}
	return size(n * float64(unit)), nil
}

// setting is one field of Config.
type setting struct {
	reflect.StructField
	name string // of the variable
}

func settings() []setting {
	var all []setting
	for f := range reflect.TypeFor[Config]().Fields() {
		all = append(all, setting{f, f.Tag.Get("env")})
	}
	return all
}

func (s setting) flag() string { return flagOf(s.name) }

// flagOf is the flag of a variable.
func flagOf(name string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(name, "THREADBOOK_"), "_", "-"))
}

// show is a value as it may be printed.
func (s setting) show(value string) string {
	if s.Tag.Get("secret") != "" {
		return "(not shown)"
	}
	return strconv.Quote(value)
}

// expected says what values the setting takes.
func (s setting) expected() string {
	if one := s.Tag.Get("oneof"); one != "" {
		return "one of " + strings.Join(strings.Fields(one), ", ")
	}
	kind := map[reflect.Type]string{
		reflect.TypeFor[size]():          "a size such as 512m or 2g",
		reflect.TypeFor[time.Duration](): "a duration such as 90s or 15m",
		reflect.TypeFor[int]():           "a whole number",
		reflect.TypeFor[int64]():         "a whole number",
		reflect.TypeFor[float64]():       "a number",
		reflect.TypeFor[bool]():          "true or false",
	}[s.Type]
	if least := s.Tag.Get("min"); least != "" && least != "0" {
		kind += ", at least " + least
	}
	return kind
}

// fault is one thing wrong with the configuration.
type fault struct{ name, value, expected string }

func (f fault) Error() string {
	return fmt.Sprintf("%s is %s; expected: %s", f.name, f.value, f.expected)
}

// loadConfig reads the environment, files named by NAME_FILE, and flags, which
// win. Its error joins every fault, one line each.
func loadConfig(environ []string, flags *pflag.FlagSet) (Config, error) {
	vars := env.ToMap(environ)
	var faults []error
	for _, s := range settings() {
		value, file, err := settingOf(s.name, environ, flags)
		if err != nil {
			faults = append(faults, fault{s.name + "_FILE", strconv.Quote(file), "the name of a file that can be read (" + err.Error() + ")"})
		}
		if vars[s.name] = value; value == "" {
			delete(vars, s.name) // empty means the default
		}
	}
	var c Config
	err := env.ParseWithOptions(&c, env.Options{Environment: vars, FuncMap: map[reflect.Type]env.ParserFunc{
		reflect.TypeFor[size](): func(v string) (any, error) { return parseSize(v) },
	}})
	unread := parseFaults(err, vars)
	for _, f := range c.check(vars) { // what could not be read is not too small as well
		if !slices.ContainsFunc(unread, func(u error) bool { return u.Error() == f.Error() }) {
			faults = append(faults, f)
		}
	}
	faults = append(faults, unread...)
	if c.Concurrency == 0 {
		c.Concurrency = 2 * runtime.NumCPU()
	}
	return c, errors.Join(faults...)
}

// settingOf reads one variable, or the file that its twin names, or its flag,
// which wins. Its error is of the file.
func settingOf(name string, environ []string, flags *pflag.FlagSet) (value, file string, err error) {
	vars := env.ToMap(environ)
	value = vars[name]
	if file = vars[name+"_FILE"]; file != "" && value == "" {
		var data []byte
		if data, err = os.ReadFile(file); err == nil {
			value = strings.TrimSpace(string(data))
		}
	}
	if f := flags.Lookup(flagOf(name)); f != nil && f.Changed {
		value = f.Value.String()
	}
	return value, file, err
}

// parseFaults puts the library's errors into our words.
func parseFaults(err error, vars map[string]string) []error {
	var all env.AggregateError
	if !errors.As(err, &all) {
		return nil
	}
	var faults []error
	for _, e := range all.Errors {
		var p env.ParseError
		if !errors.As(e, &p) {
			faults = append(faults, e)
			continue
		}
		for _, s := range settings() {
			if s.Name == p.Name {
				faults = append(faults, fault{s.name, s.show(vars[s.name]), s.expected()})
			}
		}
	}
	return faults
}

// check looks at what the types don't tell.
func (c *Config) check(vars map[string]string) []error {
	var faults []error
	v := reflect.ValueOf(c).Elem()
	for _, s := range settings() {
		set := vars[s.name]
		if one := s.Tag.Get("oneof"); one != "" && set != "" && !slices.Contains(strings.Fields(one), set) {
			faults = append(faults, fault{s.name, s.show(set), s.expected()})
		}
		if least := s.Tag.Get("min"); least != "" && set != "" && below(v.FieldByIndex(s.Index), least) {
			faults = append(faults, fault{s.name, s.show(set), s.expected()})
		}
	}
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		faults = append(faults, fault{"THREADBOOK_ADDR", strconv.Quote(c.Addr), "an address such as 127.0.0.1:8080 or :8080"})
	}
	for _, r := range c.Host {
		if r <= ' ' || r > '~' || strings.ContainsRune("{}/:", r) {
			faults = append(faults, fault{"THREADBOOK_HOST", strconv.Quote(c.Host), "a plain word, such as the name of the machine"})
			break
		}
	}
	for name, value := range map[string]string{"OPENAI_BASE_URL": c.OpenAIBaseURL, "THREADBOOK_PUBLIC_URL": c.PublicURL,
		"SLACK_API_URL": c.SlackAPIURL, "DISCORD_API_URL": c.DiscordAPIURL} {
		if u, err := url.Parse(value); value != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			faults = append(faults, fault{name, strconv.Quote(value), "an address that begins with http:// or https://"})
		}
	}
	if c.SlackBotToken != "" && c.SlackAppToken == "" && c.SlackSigningSecret == "" {
		faults = append(faults, fault{"SLACK_APP_TOKEN", "empty", "the app-level token, or SLACK_SIGNING_SECRET, since SLACK_BOT_TOKEN is set: without either nothing is heard"})
	}
	if c.RedisURL != "" {
		if _, err := redisstore.ParseURL(c.RedisURL); err != nil {
			faults = append(faults, fault{"REDIS_URL", "(not shown)", "an address such as redis://host:6379/0 (" + err.Error() + ")"})
		}
	}
	if !blobs.IsFolder(c.Data) {
		if err := blobs.CheckAddress(c.Data); err != nil {
			faults = append(faults, fault{"THREADBOOK_DATA", "(not shown)", "a folder, or an address such as s3://bucket/prefix?endpoint=https://host:port (" + err.Error() + ")"})
		} else if c.RedisURL == "" {
			faults = append(faults, fault{"REDIS_URL", "empty", "the address of a Redis, since the private one needs a folder and THREADBOOK_DATA names none"})
		}
	}
	return faults
}

// below says whether a value is under the least that its tag allows.
func below(v reflect.Value, least string) bool {
	switch x := v.Interface().(type) {
	case size:
		n, err := parseSize(least)
		return err != nil || x < n
	case time.Duration:
		d, err := time.ParseDuration(least)
		return err != nil || x < d
	}
	n, err := strconv.ParseFloat(least, 64)
	if err != nil {
		return true
	}
	if v.CanFloat() {
		return v.Float() < n
	}
	return float64(v.Int()) < n
}

// addFlags gives every variable its flag.
func addFlags(flags *pflag.FlagSet) {
	for _, s := range settings() {
		flags.String(s.flag(), "", s.name)
		f := flags.Lookup(s.flag())
		if f.Hidden = true; s.Type.Kind() == reflect.Bool {
			f.NoOptDefVal = "true"
		}
	}
}

// unknownVariables are those that look like ours and aren't: misspelt ones.
func unknownVariables(environ []string) []string {
	known := map[string]bool{}
	for _, s := range settings() {
		known[s.name], known[s.name+"_FILE"] = true, true
	}
	var unknown []string
	for name := range env.ToMap(environ) {
		if strings.HasPrefix(name, "THREADBOOK_") && !known[name] {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}

// helpConfig writes the list of all settings.
func helpConfig(w io.Writer) {
	fmt.Fprint(w, "Everything is set by environment variables. Each has a flag, which wins over it, and a variable\n"+
		"with _FILE behind its name that names a file holding the value.\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, s := range settings() {
		def := s.Tag.Get("envDefault")
		if def == "" {
			def = "(empty)"
		}
		fmt.Fprintf(t, "%s\t--%s\t%s\n", s.name, s.flag(), def)
	}
	t.Flush()
	fmt.Fprintln(w)
	for _, s := range settings() {
		fmt.Fprintf(w, "%s\n    %s\n", s.name, s.Tag.Get("help"))
	}
}

// limits are the sandbox's.
func (c Config) limits() sandbox.Limits {
	return sandbox.Limits{Memory: int64(c.SandboxMemory), CPUs: c.SandboxCPUs, PIDs: c.SandboxPIDs, Disk: int64(c.SandboxDisk)}
}

// host is the machine's name in the fleet.
func (c Config) host() (string, error) {
	if c.Host != "" {
		return c.Host, nil
	}
	return os.Hostname()
}

// hasModel says whether somebody has named a model's server.
func (c Config) hasModel() bool { return c.OpenAIKey != "" || c.OpenAIBaseURL != "" }
