package docker

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
)

// Labels of what we make. The reaper goes by them and by names, and touches
// nothing that lacks one.
const (
	labelProject    = "threadbook.sandbox"
	labelHost       = "threadbook.host"
	labelThread     = "threadbook.thread"
	labelRole       = "threadbook.role"       // what it was made as
	labelCheckpoint = "threadbook.checkpoint" // its checkpoints' name
	labelPlan       = "threadbook.plan"       // what it was made like
)

// Roles. One of the pool keeps its role when a thread takes it, since labels
// can't be changed; its name says which it is.
const (
	roleThread   = "thread"
	rolePool     = "pool"
	roleTemplate = "template"
	roleErrand   = "errand"
	roleCarry    = "carry" // of one that is never started: see port.go
	roleSleep    = "sleep" // of a volume: the note that a thread sleeps
)

// Names begin with these.
const (
	containerPrefix = "threadbook-"
	templatePrefix  = "threadbook-template-"
	sandboxPrefix   = "threadbook-sandbox-"
	sleepPrefix     = "threadbook-sleep-"
)

// maxName is the longest name of a thread that is spelt out in a container's.
const maxName = 180

// hostKey stands for the host in names.
func (p *Provider) hostKey() string { return digest(p.config.Host)[:10] }

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// containerName is the name of a thread's container: the same in every process,
// and the thread can be told from it.
func (p *Provider) containerName(thread string) string {
	spelt := spell(thread)
	if len(spelt) > maxName {
		spelt = "__" + digest(thread)[:40]
	}
	return containerPrefix + p.hostKey() + "-" + spelt
}

// canRename is whether a container of the pool can become the thread's: its name
// must tell the thread, since its labels can't.
func canRename(thread string) bool { return thread != "" && len(spell(thread)) <= maxName }

// threadOf is the thread that a container of ours belongs to, "" for none.
func (p *Provider) threadOf(c container.Summary) string {
	if thread := c.Labels[labelThread]; thread != "" || c.Labels[labelRole] != rolePool {
		return thread
	}
	for _, name := range c.Names {
		spelt, found := strings.CutPrefix(strings.TrimPrefix(name, "/"), containerPrefix+p.hostKey()+"-")
		if thread, ok := unspell(spelt); found && ok {
			return thread
		}
	}
	return ""
}

// isOf is whether a container that bears the thread's name is the thread's.
func (p *Provider) isOf(labels map[string]string, thread string) bool {
	if labels[labelProject] != "1" || labels[labelHost] != p.config.Host {
		return false
	}
	return labels[labelThread] == thread || labels[labelThread] == "" && labels[labelRole] == rolePool
}

// spell writes any text in letters, digits and dashes; every other byte is an
// underscore and its number.
func spell(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "_%02X", c)
		}
	}
	return b.String()
}

func unspell(spelt string) (text string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(spelt); i++ {
		if spelt[i] != '_' {
			b.WriteByte(spelt[i])
			continue
		}
		if i+2 >= len(spelt) {
			return "", false
		}
		c, err := strconv.ParseUint(spelt[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(c))
		i += 2
	}
	return b.String(), b.Len() > 0 && spell(b.String()) == spelt
}

func (p *Provider) poolPrefix() string { return containerPrefix + "pool-" + p.hostKey() + "-" }

// inPool is whether a container waits for a thread to take it.
func (p *Provider) inPool(c container.Summary) bool {
	return c.Labels[labelRole] == rolePool && len(c.Names) > 0 &&
		strings.HasPrefix(c.Names[0], "/"+p.poolPrefix())
}

// newCheckpoint is a name for the checkpoints of a sandbox, before anybody knows
// whose it will be.
func (p *Provider) newCheckpoint() string {
	return sandboxPrefix + p.hostKey() + "-" + strings.ToLower(rand.Text())
}

func (p *Provider) labels(thread string) map[string]string {
	return p.labelsOf(blueprint{thread: thread, role: roleThread})
}

func (p *Provider) labelsOf(b blueprint) map[string]string {
	labels := map[string]string{labelProject: "1", labelHost: p.config.Host, labelRole: b.role}
	if b.thread != "" {
		labels[labelThread] = b.thread
	}
	if b.saveAs != "" {
		labels[labelCheckpoint] = b.saveAs
	}
	if b.plan != "" {
		labels[labelPlan] = b.plan
	}
	return labels
}

// ours finds what is of this project and host.
func (p *Provider) ours() filters.Args {
	return filters.NewArgs(
		filters.Arg("label", labelProject+"=1"),
		filters.Arg("label", labelHost+"="+p.config.Host),
	)
}
