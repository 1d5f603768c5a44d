// Package runtime is threadbook-runtime: an OCI runtime that stands in front
// of gVisor's runsc. An engine calls it as it would call runsc, and it becomes
// runsc by exec, with the words it was given. It changes five things, each for
// containers whose environment asks for it and for no others:
//
//   - A checkpoint is kept in a directory of its own instead of where the
//     engine asks for it. The engine copies what it gets several times over, as
//     tar; it gets a file of a hundred bytes that names the checkpoint.
//   - The restore of such a checkpoint follows that name.
//   - The start of a container can be the restore of a kept checkpoint, so that
//     a new container begins where another one was: the template that every
//     thread's sandbox starts from, and a thread that wakes up.
//   - A container has a disk limit of its own.
//   - A container can run an errand: list the kept checkpoints, delete some, adopt
//     one that was carried here from another machine.
//
// # The container's environment
//
// Docker Engine has no better channel: annotations came with API 1.43. The
// variables are set when the container is created:
//
//	THREADBOOK_SAVE_AS   name under which checkpoints of this container are kept
//	THREADBOOK_RESTORE   name of the checkpoint that its start restores
//	THREADBOOK_BASE      any text, such as the container image's id; a checkpoint
//	                     is restored only where the text is the same
//	THREADBOOK_DISK      bytes that may be written to its root file system
//	THREADBOOK_ERRAND    "list", "list NAME", "delete NAME..." or "adopt NAME": see below
//
// A name is lower-case letters, digits and dashes. A container without
// THREADBOOK_SAVE_AS is checkpointed as runsc alone would.
//
// Code in the sandbox can't influence any of this. The variables are read from
// the bundle's config.json, which the engine writes into a directory of root's
// on the host before the container's first process runs, and which is not
// mounted into it; the environment that code sees is a copy. All that comes out
// of a sandbox are a checkpoint's bytes, which gVisor's kernel wrote, not the code
// on it, and only runsc reads them: the version at their head on the host, the
// rest inside the next sandbox. Whoever can create containers on the engine can
// restore any kept checkpoint; such a person is root on the machine anyway.
//
// # How a driver uses it
//
// Template. Create a container with THREADBOOK_SAVE_AS=template-x, wait until it
// is ready, create a checkpoint with exit (POST /containers/{id}/checkpoints,
// any id of two letters or more), remove the container. A checkpoint under that
// name is replaced, in one step, once the new one is whole.
//
// A sandbox from it. Create a container that is the same but for its
// environment, with THREADBOOK_RESTORE=template-x and a THREADBOOK_SAVE_AS that
// nothing else has; attach; start it, without a checkpoint id. Many can start
// from one checkpoint at once. Until a container is restored its limit on
// processors is lifted, for that binds gVisor too and would make the restore half
// as long again. Their programs go on with the template's variables,
// environment and random state, at another time of day.
//
// Hibernation. Create a checkpoint with exit. Where that succeeds, wait until the
// container has ended, with code 137, since it is killed once its checkpoint is
// safely on disk, and remove it. Where it fails, because the disk is full, say,
// the container goes on as if nothing had been: until the end it is only paused.
// (If it has ended all the same, the engine failed after this package was done,
// and it can be woken.)
//
// Waking up. Create a container with THREADBOOK_RESTORE and THREADBOOK_SAVE_AS
// both set to the old name; attach; start. A container that bears the name it
// restores takes the checkpoint's place: once it runs, the checkpoint is gone, so
// that a sandbox is either asleep or awake and an old state can't come back. If
// the start fails the checkpoint is still there. To fork a thread, give the new
// container another THREADBOOK_SAVE_AS.
//
// Errands. Create a container from the sandbox image with the command "true",
// THREADBOOK_ERRAND=list, no network; attach; start. Its output is one line of
// JSON, a [Listing]. THREADBOOK_ERRAND="delete NAME NAME" deletes first; a name
// that isn't there is no error. A listing that is longer than the container's
// output can hold before anybody reads it, some thousands of checkpoints, comes in
// pages: "list NAME" goes on with that name. On the machine itself
// "threadbook-runtime checkpoints [delete NAME...]" does the same. A reaper
// deletes the names with its own prefix that belong to no container (by
// THREADBOOK_SAVE_AS) and no sleeping thread.
//
// # To another machine
//
// The engine carries checkpoints, by its calls that copy files out of a container
// and into one: a container that is made and never started, with the directory
// bound into it. Out of it go NAME.json and the folder NAME.ID, both as described
// below, while nothing starts from the checkpoint. There the data and the
// description, which is called checkpoint.json then, are put into the folder
// incoming/NAME, under a name that is new on that machine. Then a container is
// made like the one to be restored, but with THREADBOOK_ERRAND="adopt NAME" in
// place of the names, and started. That fails, and leaves nothing to remove but the
// container, with the code "adopted" or with the reason why not: the data isn't
// what it was, byte by byte, or does not fit the container or this runsc. What was
// not adopted is deleted, at once or, after a crash, fifteen minutes later.
//
// Whoever can write into what is carried decides what a thread's sandbox is like
// inside, so the driver has to know that the bytes are those that it sent.
//
// # What can go wrong
//
// A failure is told in the engine's answer, as "threadbook-runtime: CODE: what it
// is"; the codes are constants of this package. What can be checked of a restore
// is checked when the engine calls create, where a failure leaves nothing behind.
// Docker Engine 20.10 leaks the sandbox of a start that fails, so where runsc's
// restore itself fails, this package ends it. In both cases the container is left
// as created: remove it.
//
// A checkpoint fits a container if runsc is of the same version, THREADBOOK_BASE
// and THREADBOOK_DISK are the same (the disk's size is part of the saved state),
// and the container has the same arguments, user, capabilities, limits, mounts
// (their sources may differ), seccomp profile and so on: what runsc itself
// compares. Memory, processors, host name, environment and the network may
// differ.
//
// # Registering it
//
//	"runtimes": {
//	  "threadbook": {
//	    "path": "/usr/local/bin/threadbook-runtime",
//	    "runtimeArgs": ["--runsc=/usr/local/bin/runsc", "--overlay2=root:self,size=2g"]
//	  }
//	}
//
// Its own flags, all with "=": --runsc, --checkpoints (the directory),
// --checkpoints-quota and --checkpoints-reserve (bytes that all checkpoints may
// take together, and that must stay free on their disk; with k, m or g). Other
// flags are runsc's. Checkpoints need "experimental": true in daemon.json.
//
// # The directory
//
//	NAME.json       what the checkpoint is; with this file it exists, without it not
//	NAME.ID/        what runsc wrote
//	incoming/NAME/  what is being carried here
//
// Of NAME.json a driver may read "id" and "files", the files of the data with
// their sizes.
//
// ID is random. The data is written and flushed first, then NAME.json is renamed
// into place, so a crash or a full disk leaves no half of a checkpoint, only data
// that nothing names; the next checkpoint or errand removes it. Whoever writes or
// reads data holds a lock on its directory meanwhile. The data is the memory of
// people's programs: the directory is root's alone, and is not used if it isn't.
// The files' checksums are in the description. They are compared when a checkpoint
// is adopted, and not when it is restored: a flipped bit in memory's pages is not
// noticed then. Calculating them takes 16 ms for 100 MB by itself, but runsc keeps
// two processors busy meanwhile, and on a machine that has no more a thread with
// 100 MB of state (214 MB of files) woke up in 880 ms instead of 730.
package runtime
