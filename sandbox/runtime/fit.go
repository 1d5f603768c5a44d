package runtime

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A fit is what of a container must be the same for a checkpoint to be restored
// into it: a value, or a digest of it, for each part that has a word of its own.
// It holds what runsc compares and nothing more, so that it refuses nothing that
// runsc would take; it is there to refuse early, and to say what differs.
type fit map[string]string

// Parts whose value is kept as it is.
const (
	partBase = "base"
	partDisk = "disk"
)

// digestLength is that of a part's digest, in hexadecimal digits.
const digestLength = 16

// processParts are parts of a container's "process" by their words in
// config.json. What is left of it, without the environment, is one part more.
var processParts = []string{"args", "user", "cwd", "terminal", "capabilities", "rlimits"}

// linuxParts are those of its "linux" that get a part of their own.
var linuxParts = []string{"seccomp", "sysctl", "namespaces", "devices"}

// linuxFree are those that may differ.
var linuxFree = []string{"resources", "cgroupsPath", "uidMappings", "gidMappings"}

// fit makes out what the container is. It changes its spec.
func (box *container) fit() fit {
	f := fit{partBase: box.settings.base, partDisk: strconv.FormatInt(box.settings.disk, 10)}
	process, linux := object(box.spec["process"]), object(box.spec["linux"])
	if args, ok := process["args"].([]any); ok && len(args) > 0 {
		program, _ := args[0].(string)
		args[0] = path.Base(program)
	}
	for _, set := range object(process["capabilities"]) {
		sortSet(set)
	}
	sortSet(process["rlimits"])
	linux["namespaces"] = only(linux["namespaces"], "type")
	linux["devices"] = only(linux["devices"], "path", "type")
	delete(process, "env")
	for _, name := range linuxFree {
		delete(linux, name)
	}
	for _, name := range processParts {
		f.add(name, take(process, name))
	}
	for _, name := range linuxParts {
		f.add(name, take(linux, name))
	}
	f.add("process", process)
	f.add("linux", linux)
	f.add("mounts", mounts(box.spec["mounts"]))
	f.add("readonly", object(box.spec["root"])["readonly"])
	f.add("ociVersion", box.spec["ociVersion"])
	return f
}

// add adds a part. What is absent, false or empty is the same.
func (f fit) add(name string, value any) {
	data, _ := json.Marshal(value)
	switch string(data) {
	case "null", "false", "{}", "[]", `""`:
		return
	}
	sum := sha256.Sum256(data)
	f[name] = hex.EncodeToString(sum[:])[:digestLength]
}

// differences names the parts that differ; "" is none.
func (f fit) differences(now fit) string {
	var differ []string
	for _, name := range slices.Sorted(maps.Keys(merged(f, now))) {
		switch {
		case f[name] == now[name]:
		case name == partBase || name == partDisk:
			differ = append(differ, fmt.Sprintf("%s (was %q, is %q)", name, f[name], now[name]))
		default:
			differ = append(differ, name)
		}
	}
	return strings.Join(differ, ", ")
}

func merged(a, b fit) fit {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

// mounts are a container's mounts by where they are, without their sources.
func mounts(value any) any {
	all := map[string]any{}
	list, _ := value.([]any)
	for _, entry := range list {
		mount := object(entry)
		sortSet(mount["options"])
		destination, _ := mount["destination"].(string)
		all[destination] = []any{mount["type"], mount["options"]}
	}
	return all
}

// only keeps those fields of each object in a list, in an order of its own.
func only(value any, fields ...string) any {
	list, _ := value.([]any)
	kept := make([]any, len(list))
	for i, entry := range list {
		values := make([]any, len(fields))
		for j, field := range fields {
			values[j] = object(entry)[field]
		}
		kept[i] = values
	}
	sortSet(kept)
	return kept
}

// sortSet sorts a list whose order means nothing.
func sortSet(value any) {
	list, _ := value.([]any)
	slices.SortFunc(list, func(a, b any) int {
		x, _ := json.Marshal(a)
		y, _ := json.Marshal(b)
		return cmp.Compare(string(x), string(y))
	})
}

func object(value any) map[string]any {
	fields, _ := value.(map[string]any)
	if fields == nil {
		fields = map[string]any{}
	}
	return fields
}

func take(fields map[string]any, name string) any {
	value := fields[name]
	delete(fields, name)
	return value
}

// decode reads JSON and keeps its numbers as they are written.
func decode(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode(into)
}
