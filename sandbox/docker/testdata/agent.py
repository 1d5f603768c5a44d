"""Tests of the agent's parts that need no kernel. Run in the image, by Go."""

import asyncio
import base64
import json
import os
import random
import signal
import socket
import sys
import unittest

sys.path.insert(0, "/opt/threadbook/agent/languages/python")
sys.path.insert(0, "/opt/threadbook/agent")

import displays
import files
import link
import outbox
import packets
import sink
import text
import watchdog
import wire


def cleaned(*pieces):
    cleaner = text.Cleaner()
    return "".join([*(cleaner.feed(piece) for piece in pieces), cleaner.end()])


class Text(unittest.TestCase):
    def test_table(self):
        for pieces, want in (
            (("plain\n",), "plain\n"),
            (("a\x1b[1;31mb\x1b[0mc",), "abc"),
            (("a\x1b[1;", "31mb"), "ab"),
            (("a\x1b", "[1mb"), "ab"),
            (("a\x1b]0;title", "\x07b"), "ab"),
            (("a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\b",), "alinkb"),
            (("a\x9b1mb\x00\x07c",), "abc"),
            (("ends in half \x1b[3",), "ends in half "),
            (("1\r2\r3\n",), "3\n"),
            (("\r 1%", "\r 2%", "\r100%\n", "done\n"), "100%\ndone\n"),
            (("10%\r", "20%\r", "30%\r\n"), "30%\n"),
            (("dos\r\n", "lines\r\n"), "dos\nlines\n"),
            (("dos\r", "\nlines"), "dos\nlines"),
            (("begun ", "and\rover\n"), "begun and\nover\n"),
            (("begun", "\r\n", "next"), "begun\nnext"),
            (("begun", "\r", "\n", "next"), "begun\nnext"),
            (("a\n\rb", "c\n"), "a\nbc\n"),
        ):
            self.assertEqual(cleaned(*pieces), want, pieces)

    def test_pieces_make_no_difference(self):
        rng = random.Random(1)
        alphabet = ["a", "é", "\n", "\x1b[1m", "\x1b]0;t\x07", "\x1b(B", "\x1b", "[", "m", "\x00"]
        for _ in range(2000):
            whole = "".join(rng.choice(alphabet) for _ in range(rng.randrange(30)))
            cuts = sorted(rng.randrange(len(whole) + 1) for _ in range(3))
            pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)])]
            self.assertEqual(cleaned(*pieces), cleaned(whole), pieces)

    def test_peek(self):
        cleaner = text.Cleaner()
        cleaner.feed("\r50%")
        self.assertTrue(cleaner.holding)
        self.assertEqual(cleaner.peek(), "50%\n")
        self.assertEqual(cleaner.feed("\r100%\n"), "100%\n")


class Sink(unittest.TestCase):
    def run_sink(self, use):
        """The events of a sink that use writes to."""
        events = []

        async def run():
            self.flooded = False
            out = sink.Sink(0, lambda fields, payload: events.append((fields, payload)), self.flood)
            use(out)
            await asyncio.sleep(2 * sink.FLUSH_AFTER)
            out.close()

        asyncio.run(run())
        return events

    def flood(self):
        self.flooded = True

    def text(self, events):
        return "".join(fields["text"] for fields, _ in events if fields["event"] == "text")

    def test_order_and_size(self):
        def use(out):
            out.write("stdout", "é" * 100_000)
            out.write("stderr", "e")
            out.write("stdout", "o")

        events = self.run_sink(use)
        self.assertEqual(self.text(events), "é" * 100_000 + "eo")
        self.assertTrue(all(len(f["text"].encode()) <= sink.EVENT for f, _ in events))

    def test_a_little_over_is_shown_whole(self):
        size = sink.HEAD + sink.TAIL
        events = self.run_sink(lambda out: out.write("stdout", "x" * size))
        self.assertEqual(len(self.text(events)), size)
        self.assertFalse(any(fields.get("truncated") for fields, _ in events))

    def test_head_tail_and_file(self):
        whole = "".join(f"{i:06}\n" for i in range(100_000))
        events = self.run_sink(lambda out: out.write("stdout", whole))
        shown = self.text(events)
        left_out = sum(fields.get("truncated", 0) for fields, _ in events)
        self.assertEqual(shown, whole[: sink.HEAD] + whole[-sink.TAIL :])
        self.assertEqual(left_out, len(whole) - len(shown))
        with open("/workspace/outputs/cell-0-output.txt") as file:
            self.assertEqual(file.read(), whole)

    def test_flood(self):
        def use(out):
            for _ in range(6):
                out.write("stdout", "x" * 10_000_000)

        events = self.run_sink(use)
        self.assertTrue(self.flooded)
        self.assertIn("has the first", self.text(events))

    def test_clear_output_keeps_the_last_scene(self):
        def use(out):
            for i in range(5):
                out.clear()
                out.write("stdout", f"{i}\n")
                out.display({"text/html": f"<b>{i}</b>"})

        events = self.run_sink(use)
        self.assertEqual(self.text(events), "4\n")
        self.assertEqual([payload for _, payload in events if payload], [b"<b>4</b>"])

    def test_an_update_has_the_number_of_what_it_updates(self):
        def use(out):
            out.display({"text/plain": "a 0"}, "a")
            out.display({"text/plain": "other"})
            out.display({"text/plain": "a again"}, "a")
            for i in range(3):
                out.display({"text/plain": f"a {i}"}, "a", update=True)
                out.display({"text/plain": f"nobody's {i}"}, "b", update=True)

        shown = [(fields["display"], payload.decode()) for fields, payload in self.run_sink(use)]
        self.assertEqual(
            shown, [(1, "a 0"), (2, "other"), (3, "a again"), (3, "a 2"), (4, "nobody's 2")]
        )

    def test_displays_are_bounded(self):
        def use(out):
            for _ in range(3):
                out.display({"text/html": "x" * (15 << 20)})
            out.display({"image/png": base64.b64encode(b"x" * (21 << 20)).decode()})

        events = self.run_sink(use)
        self.assertEqual(sum(len(payload or b"") for _, payload in events), 30 << 20)
        self.assertIn("is left out", self.text(events))
        numbers = {fields["display"] for fields, _ in events if fields["event"] == "data"}
        self.assertEqual(len(numbers), 2)


MB = 1 << 20


class Watchdog(unittest.TestCase):
    """A sandbox of 1,000 MB whose memory is as a test says."""

    memory, disk = 1000 * MB, 0
    session = 7
    running = True

    def setUp(self):
        self.told, self.stopped, self.killed = [], [], []
        self.used, self.obeys = 100, True
        watchdog.processes.kill = self.killed.append
        watchdog.processes.of_user = list
        watchdog.processes.count = lambda: 1

    def memory_used(self):
        return self.used * MB

    def disk_used(self):
        return 0

    def tighten(self):
        self.told.append(self.used)
        return self.obeys

    def watch(self, *steps):
        """Has the memory so many MB, each for so many seconds."""

        async def run():
            dog = watchdog.Watchdog(self, [self], self, lambda *why: self.stopped.append(why[0]))
            for used, seconds in steps:
                self.used = used
                await asyncio.sleep(seconds)
            await dog.end()

        asyncio.run(run())

    def test_slow_growth_is_stopped_step_by_step(self):
        self.watch(*((used, 0.1) for used in (300, 500, 640, 660, 670, 700, 850, 930, 700)))
        self.assertEqual([used for used in self.told if used > 800], [850, 930])
        self.assertEqual(self.stopped, [])

    def test_fast_growth_is_stopped_early(self):
        self.watch((200, 0.1), (300, 0.1), (300, 0.1))
        self.assertTrue(self.told and self.told[0] <= 300)
        self.assertEqual(self.stopped, [])

    def test_a_late_look_is_no_death(self):
        self.watch((1040, 0.1), (600, 0.3))
        self.assertEqual((self.told, self.stopped, self.killed), ([1040], [], []))

    def test_who_does_not_obey_is_ended(self):
        for obeys in (True, False):
            self.setUp()
            self.obeys = obeys
            self.watch((1040, 0.5), (100, 0.1))
            self.assertEqual((self.told, self.stopped, len(self.killed)), ([1040], ["out_of_memory"], 1))

    def test_far_over_there_is_no_time(self):
        self.watch((1120, 0.1), (100, 0.1))
        self.assertEqual((self.told, self.stopped, len(self.killed)), ([], ["out_of_memory"], 1))


class Displays(unittest.TestCase):
    def test_representations(self):
        png = base64.b64encode(b"\x89PNG").decode()
        for bundle, want in (
            ({"text/plain": "2"}, ["text/plain"]),
            ({"text/plain": "<Figure size 1x1>", "image/png": png}, ["image/png"]),
            ({"text/plain": "a  b", "image/png": png}, ["text/plain", "image/png"]),
            ({"text/plain": "<IPython.core.display.HTML object>", "text/html": "a"}, ["text/html"]),
            ({"text/plain": "<IPython.core.display.HTML object>"}, ["text/plain"]),
            ({"application/x-evil": "a", "application/json": {"a": [1]}}, ["application/json"]),
            ({"application/json": float("nan")}, []),
            ({"image/png": "***", "text/html": 7}, []),
            ({"text/html": ["a", "b"]}, ["text/html"]),
        ):
            found = displays.representations(bundle)
            self.assertEqual([mime for mime, _ in found], want, bundle)


class Wire(unittest.TestCase):
    def test_round_trip(self):
        for fields, payload in (({"id": 1}, None), ({"t": "\t\n\u2028é"}, b""), ({}, b"\x00\xff\n")):
            line = wire.encode(fields, payload)
            self.assertEqual(line.count(b"\n"), 1)
            self.assertEqual(wire.decode(line[:-1]), (fields, payload))

    def test_malformed(self):
        for line in (b"", b"{", b"[1]", b"7", b'{"id":1}\t***', b"[" * 100_000, b"\xff"):
            with self.assertRaises(wire.Malformed):
                wire.decode(line)

    def test_fuzz(self):
        rng = random.Random(2)
        seed = wire.encode({"id": 1, "op": "put", "path": "a", "size": 3}, b"abc")[:-1]
        for _ in range(5000):
            line = bytearray(seed)
            for _ in range(rng.randrange(1, 5)):
                line[rng.randrange(len(line))] = rng.randrange(256)
            try:
                fields, _ = wire.decode(bytes(line))
            except wire.Malformed:
                continue
            self.assertIsInstance(fields, dict)


class Outbox(unittest.TestCase):
    class Pipe:
        def __init__(self):
            self.lines = []

        def write(self, line):
            self.lines.append(wire.decode(line[:-1])[0].get("e"))

        def forget(self):
            self.lines.clear()

    def test_kept_until_acknowledged(self):
        pipe = self.Pipe()
        box = outbox.Outbox(pipe)
        box.begin()
        box.event({"e": "a"})
        self.assertEqual(pipe.lines, [])
        box.follow(0)
        box.event({"e": "b"})
        box.event({"e": "c"})
        self.assertEqual(pipe.lines, ["a", "b", "c"])
        box.acknowledge(1)
        box.detach()
        box.event({"e": "d"})
        box.event({"e": "end"}, last=True)
        box.follow(2)
        self.assertEqual(pipe.lines, ["c", "d", "end"])
        box.acknowledge(99)
        box.detach()
        box.follow(0)
        self.assertEqual(pipe.lines, ["end"])
        box.begin()
        box.detach()
        box.follow(0)
        self.assertEqual(pipe.lines, [])


class Packets(unittest.TestCase):
    def test_round_trip(self):
        joined = packets.Joined(10 * packets.PACKET)
        for size in (0, 1, packets.PACKET, packets.PACKET + 1, 5 * packets.PACKET):
            data = os.urandom(size)
            *parts, last = packets.cut(data)
            self.assertTrue(all(len(part) <= packets.MAX_PACKET for part in (*parts, last)))
            for part in parts:
                self.assertIsNone(joined.add(part))
            self.assertEqual(joined.add(last), data)

    def test_senders_mix(self):
        joined, data = packets.Joined(1 << 20), {}
        lines = []
        for sender in (1, 2, 3):
            data[sender] = os.urandom(3 * packets.PACKET)
            lines.append([sender.to_bytes(4, "little") + p[4:] for p in packets.cut(data[sender])])
        found = [joined.add(packet) for row in zip(*lines) for packet in row]
        self.assertEqual([one for one in found if one is not None], list(data.values()))

    def test_too_large(self):
        joined = packets.Joined(2 * packets.PACKET)
        with self.assertRaises(packets.TooLarge):
            for packet in packets.cut(b"x" * 3 * packets.PACKET):
                joined.add(packet)
        for packet in packets.cut(b"after"):
            self.assertEqual(joined.add(packet), b"after")


class Link(unittest.TestCase):
    def setUp(self):
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.addCleanup(self.ours.close)
        self.joined = packets.Joined(1 << 24)
        self.link = link.Link(theirs.detach())

    def received(self):
        """The text that came, of both streams together."""
        text = ""
        try:
            while True:
                data = self.joined.add(self.ours.recv(packets.MAX_PACKET, socket.MSG_DONTWAIT))
                for line in (data or b"").split(b"\n"):
                    text += json.loads(line)[2]["text"] if line else ""
        except BlockingIOError:
            return text

    def test_order(self):
        for i in range(100):
            self.link.write(("stdout", "stderr")[i % 3 == 0], f"{i} ")
        self.link.write("stdout", "")
        self.link.flush()
        self.assertEqual(self.received(), "".join(f"{i} " for i in range(100)))

    def test_an_interrupt_loses_and_repeats_nothing(self):
        class Pestered:
            def send(self, packet, send=self.link._socket.send):
                os.kill(os.getpid(), signal.SIGINT)
                send(packet)
                os.kill(os.getpid(), signal.SIGINT)

        stock, self.link._socket = self.link._socket, Pestered()
        self.addCleanup(stock.close)
        self.addCleanup(signal.signal, signal.SIGINT, self.link.take_interrupts())
        for i in range(3):
            self.link.write("stdout", f"{i} ")
            with self.assertRaises(KeyboardInterrupt):
                self.link.flush()
        self.assertEqual(self.received(), "0 1 2 ")

    def test_a_fork_does_not_send_what_waits(self):
        self.link.write("stdout", "the parent's ")
        if (child := os.fork()) == 0:
            self.link.write("stdout", "the child's ")
            os._exit(0)
        os.waitpid(child, 0)
        self.link.flush()
        self.assertEqual(self.received(), "the child's the parent's ")

    def test_nobody_listens(self):
        self.ours.close()
        self.link.write("stdout", "x")
        self.link.flush()
        self.assertFalse(self.link._waiting)


class Writer(unittest.TestCase):
    def test_what_the_pipe_does_not_take_is_kept(self):
        async def run():
            reading, writing = os.pipe()
            writer, lines = wire.Writer(writing), [b"%d" % i * 7_000 + b"\n" for i in range(200)]
            for line in lines:
                writer.write(line)
            found, want = b"", b"".join(lines)
            os.set_blocking(reading, False)
            while len(found) < len(want):
                await asyncio.sleep(0)
                try:
                    found += os.read(reading, 10_000)
                except BlockingIOError:
                    pass
            await writer.drain()
            self.assertEqual(found, want)

        asyncio.run(asyncio.wait_for(run(), 10))


class Files(unittest.TestCase):
    def test_paths(self):
        for path in ("../a", "a/../../b", "/etc", "a\0b", "a\nb", "x" * 2000, "\udc80", None, 7):
            with self.assertRaises(files.Refused):
                files._split(path)
        self.assertEqual(files._split("./a//b/."), ["a", "b"])


unittest.main(argv=["agent"], verbosity=0)
