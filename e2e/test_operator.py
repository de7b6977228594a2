"""The operator on a real control plane: runs, triggers, refusals, outages, and kill -9 at each of its failpoints."""
import os
import pathlib
import time

import pytest

import k8s
from operator_lab import GROUP, Api, Kubelet, Operator, backup, condition, eventually, offsets, restore

pytestmark = pytest.mark.skipif(not k8s.is_installed(), reason="no Kubernetes here: e2e/lab/k8s-lab install")
CRDS = pathlib.Path(__file__).parents[1] / "crds"
FAILPOINTS = ["job.before_create", "job.sent_no_reply", "job.after_create", "status.before_running",
              "status.after_running", "job.finished_seen", "status.before_terminal", "status.sent_no_reply"]


@pytest.fixture(scope="module")
def plane():
    with k8s.ControlPlane() as control_plane:
        control_plane.kubectl("apply", "--server-side", "-f", str(CRDS))
        control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
        yield control_plane


@pytest.fixture(scope="module")
def api(plane):
    server = Api(plane.kubeconfig)
    kubelet = Kubelet(server)
    yield server
    kubelet.stop()


@pytest.fixture
def space(api, request):
    """A namespace of the test's own."""
    name = "t-" + "".join(c if c.isalnum() else "-" for c in request.node.name.lower())[-40:].strip("-")
    api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    for plural in ("kafkabackups", "kafkarestores", "kafkaoffsetresets", "kafkaoffsetrollbacks"):
        for item in api.items(f"{GROUP}/namespaces/{name}/{plural}"):
            api.delete(f"{GROUP}/namespaces/{name}/{plural}/{item['metadata']['name']}")


@pytest.fixture
def operator(plane, tmp_path):
    process = Operator(plane.kubeconfig, tmp_path)
    yield process
    if process.process is not None:
        process.stop(kill=True)


class Objects:
    """What is in one namespace."""

    def __init__(self, api, space):
        self.api, self.space = api, space

    def path(self, plural, name=""):
        return f"{GROUP}/namespaces/{self.space}/{plural}" + (f"/{name}" if name else "")

    def add(self, thing):
        plural = thing["kind"].lower() + "s"
        self.api.create(self.path(plural), thing)
        return lambda: self.api.get(self.path(plural, thing["metadata"]["name"]))

    def jobs(self):
        return self.api.items(f"/apis/batch/v1/namespaces/{self.space}/jobs")

    def events(self, name):
        selector = f"involvedObject.name={name}"
        return {e["reason"] for e in self.api.items(f"/api/v1/namespaces/{self.space}/events?fieldSelector={selector}")}


@pytest.fixture
def objects(api, space):
    return Objects(api, space)


def is_ready(get, reason):
    return lambda: condition(get(), "Ready")[1] == reason


def is_recorded(job):
    return "kafka.oso.sh/recorded" in job["metadata"]["annotations"]


def test_one_shot_runs_once_and_is_recorded(operator, objects):
    operator.start()
    get = objects.add(backup("first"))
    eventually(is_ready(get, "BackupCompleted"), lambda: get().get("status"))
    status = get()["status"]
    assert status["totals"] == {"succeeded": 1, "records": 7, "bytes": 70} and status["phase"] == "Completed"
    assert [job["metadata"]["name"] for job in objects.jobs()] == ["first-g1"]
    version = get()["metadata"]["resourceVersion"]
    operator.stop()
    operator.start()
    eventually(operator.is_ready, "ready")
    time.sleep(3)
    assert get()["metadata"]["resourceVersion"] == version, "nothing changed, yet something was written"
    assert {"BackupJobCreated", "BackupSucceeded"} <= objects.events("first")


def seen(status):
    """Values of the trigger annotation that the operator knows of."""
    return [status.get("lastTriggerToken"), *status.get("pendingTriggers", [])]


def test_trigger_runs_each_value_once_and_deletion_of_a_job_frees_the_way(operator, objects, api):
    operator.start()
    get = objects.add(backup("hold", schedule="0 0 1 1 *"))
    eventually(is_ready(get, "BackupScheduled"), lambda: get().get("status"))
    for value in ("a", "b"):
        api.merge(objects.path("kafkabackups", "hold"),
                  {"metadata": {"annotations": {"kafka.oso.sh/trigger-backup": value}}})
        eventually(lambda: value in seen(get()["status"]), f"{value} is seen")
    eventually(lambda: get()["status"].get("lastTriggerToken") == "a", "the first value was handled")
    assert get()["status"]["pendingTriggers"] == ["b"]
    [job] = objects.jobs()
    api.delete(f"/apis/batch/v1/namespaces/{objects.space}/jobs/{job['metadata']['name']}")
    eventually(lambda: get()["status"].get("lastTriggerToken") == "b", lambda: get()["status"])
    assert get()["status"]["backupHistory"][0]["reason"] == "JobDeleted"
    assert "JobDeleted" in objects.events("hold")


def test_failed_run_says_why_and_restore_ends_once(operator, objects):
    operator.start()
    failed = objects.add(backup("fail65", job={"backoffLimit": 0}))
    good, bad = objects.add(restore("good")), objects.add(restore("fail65"))
    eventually(is_ready(failed, "BackupCorrupt"), lambda: failed().get("status"))
    eventually(lambda: condition(good(), "Complete") == ("True", "RestoreCompleted"), lambda: good().get("status"))
    eventually(lambda: condition(bad(), "Failed") == ("True", "BackupCorrupt"), lambda: bad().get("status"))
    assert failed()["status"]["phase"] == "Failed"
    status, _ = objects.api.call("PATCH", objects.path("kafkarestores", "good"), {"spec": {"backupId": "other"}},
                                 "application/merge-patch+json", ok=())
    assert status == 422, "the spec of a started restore is immutable"


def test_refusals_are_told_and_heal(operator, objects, api):
    taken = {"metadata": {"name": "taken-g1"}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "c"}]}}, "suspend": True}}
    api.create(f"/apis/batch/v1/namespaces/{objects.space}/jobs", taken)
    operator.start()
    cron = {"metadata": {"name": "ours"}, "spec": {"schedule": "5 5 5 5 *", "suspend": True, "jobTemplate": {
        "spec": taken["spec"]}}}
    api.create(f"/apis/batch/v1/namespaces/{objects.space}/cronjobs", cron)
    bad, held = objects.add(backup("bad", schedule="61 * * * *")), objects.add(backup("taken"))
    foreign = objects.add(backup("ours", schedule="0 * * * *"))
    eventually(is_ready(foreign, "AdoptionRefused"), lambda: foreign().get("status"))
    there = api.get(f"/apis/batch/v1/namespaces/{objects.space}/cronjobs/ours")
    assert "ownerReferences" not in there["metadata"] and there["spec"]["schedule"] == "5 5 5 5 *"
    eventually(is_ready(bad, "InvalidSchedule"), lambda: bad().get("status"))
    eventually(is_ready(held, "AdoptionRefused"), lambda: held().get("status"))
    assert condition(held(), "Stalled") == ("True", "AdoptionRefused")
    api.merge(objects.path("kafkabackups", "bad"), {"spec": {"schedule": "1 * * * *"}})
    eventually(is_ready(bad, "BackupScheduled"), lambda: bad().get("status"))
    api.delete(f"/apis/batch/v1/namespaces/{objects.space}/jobs/taken-g1")
    api.merge(objects.path("kafkabackups", "taken"), {"metadata": {"annotations": {"wake": "up"}}})
    eventually(is_ready(held, "BackupCompleted"), lambda: held().get("status"), seconds=90)


def test_retention_change_prunes_and_pause_holds_everything(operator, objects, api):
    operator.start()
    get = objects.add(backup("kept"))
    eventually(is_ready(get, "BackupCompleted"), lambda: get().get("status"))
    api.merge(objects.path("kafkabackups", "kept"), {"spec": {"retention": {"backups": 5}}})
    eventually(lambda: any("-prune-" in job["metadata"]["name"] and is_recorded(job) for job in objects.jobs()),
               objects.jobs)
    assert get()["status"]["totals"]["succeeded"] == 1, "a prune is no backup"
    pause = "kafka.oso.sh/pause-reconciliation"
    api.merge(objects.path("kafkabackups", "kept"), {"metadata": {"annotations": {pause: "true"}}})
    eventually(lambda: condition(get(), "Suspended") == ("True", "Paused"), "paused")
    api.merge(objects.path("kafkabackups", "kept"),
              {"metadata": {"annotations": {"kafka.oso.sh/trigger-backup": "v"}}, "spec": {"topics": ["other"]}})
    eventually(lambda: get()["status"].get("pendingTriggers") == ["v"], "the value is noted")
    before = len(objects.jobs())
    time.sleep(2)
    assert len(objects.jobs()) == before
    api.merge(objects.path("kafkabackups", "kept"), {"metadata": {"annotations": {pause: None}}})
    eventually(lambda: get()["status"]["totals"]["succeeded"] >= 2 and not get()["status"].get("pendingTriggers"),
               lambda: get()["status"], seconds=40)


def test_restore_waits_for_its_source_and_deletion_takes_children_along(operator, objects, api):
    operator.start()
    spec = {"targetCluster": None, "storage": None, "backupId": "hold-20241201-120000",
            "guards": {"allowSourceCluster": True}}
    thing = restore("late", **spec)
    thing["spec"] = {k: v for k, v in thing["spec"].items() if v is not None}
    get = objects.add(thing)
    eventually(lambda: condition(get(), "Complete")[1] == "StorageRequired", lambda: get().get("status"))
    source = objects.add(backup("hold"))
    eventually(lambda: condition(get(), "Complete") == ("True", "RestoreCompleted"), lambda: get().get("status"))
    assert get()["status"]["resolvedFrom"] == "KafkaBackup/hold"
    old = eventually(lambda: source()["status"].get("activeJob"), "the backup runs")["uid"]
    api.delete(objects.path("kafkabackups", "hold"))
    objects.add(backup("hold"))
    eventually(lambda: (source() or {}).get("status", {}).get("activeJob", {}).get("uid", old) != old,
               lambda: (source(), objects.jobs()), seconds=60)
    assert [j["metadata"]["name"] for j in objects.jobs() if "hold" in j["metadata"]["name"]] == ["hold-g1"]


def test_offset_kinds_run_with_rights_to_one_config_map_only(operator, objects, api):
    operator.start()
    kafka = {"bootstrapServers": ["kafka:9092"]}
    reset = objects.add(offsets("Reset", "back", strategy="earliest", consumerGroups=["g"], kafkaCluster=kafka))
    waits = objects.add(offsets("Reset", "after", strategy="headerBased", consumerGroups=["g"]))
    eventually(lambda: condition(reset(), "Complete") == ("True", "ResetCompleted"), lambda: reset().get("status"))
    eventually(lambda: condition(waits(), "Complete")[1] == "KafkaClusterRequired", lambda: waits().get("status"))
    roles = api.items(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{objects.space}/roles")
    assert [(role["metadata"]["name"], role["rules"][0]["resourceNames"]) for role in roles] == [
        ("back-offset-snapshots", ["offset-snapshots"])]
    objects.add(restore("first"))
    eventually(lambda: condition(waits(), "Complete") == ("True", "ResetCompleted"), lambda: waits().get("status"))
    assert waits()["status"]["resolvedFrom"] == "KafkaRestore/first"
    check = objects.add(offsets("Rollback", "look", operation="verify", snapshotId="s", kafkaCluster=kafka))
    eventually(lambda: condition(check(), "Complete") == ("True", "VerificationPassed"), lambda: check().get("status"))
    api.delete(objects.path("kafkaoffsetresets", "back"))
    eventually(lambda: api.get(f"/apis/rbac.authorization.k8s.io/v1/namespaces/{objects.space}/roles/"
                               "back-offset-snapshots") is None, "its Role goes with it", seconds=40)
    assert api.get(f"/api/v1/namespaces/{objects.space}/configmaps/offset-snapshots"), "snapshots stay"


@pytest.mark.skipif("KB_CRON_TICK" not in os.environ, reason="takes more than a minute: KB_CRON_TICK=1")
def test_tick_of_the_cron_job_controller_is_recorded(operator, objects):
    operator.start()
    get = objects.add(backup("minutely", schedule="* * * * *", timeZone="Europe/Berlin"))
    eventually(is_ready(get, "BackupScheduled"), lambda: get().get("status"))
    slot = get()["status"]["nextScheduledTime"]
    eventually(lambda: get()["status"].get("lastBackupTime") == slot, lambda: get()["status"], seconds=90)
    status = get()["status"]
    assert status["lastScheduleTime"] == slot and status["nextScheduledTime"] > slot
    assert status["lastBackupId"] == "minutely-" + slot.replace("-", "").replace(":", "").replace("T", "-")[:-1]
    assert "skipped" not in status["totals"]


def test_end_of_a_job_while_the_operator_is_down(operator, objects):
    operator.start()
    get = objects.add(backup("slow"))
    eventually(objects.jobs, "a Job")
    operator.stop(kill=True)
    eventually(lambda: "succeeded" in objects.jobs()[0]["status"], "the Job ended")
    operator.start()
    eventually(is_ready(get, "BackupCompleted"), lambda: get().get("status"))
    assert get()["status"]["totals"]["succeeded"] == 1


def test_api_server_away_for_a_while(operator, objects, plane):
    seconds = int(os.environ.get("KB_OUTAGE_SECONDS", "5"))
    operator.start()
    get = objects.add(backup("before"))
    eventually(is_ready(get, "BackupCompleted"), lambda: get().get("status"))
    plane.stop("kube-apiserver")
    time.sleep(seconds)
    plane.start("kube-apiserver")
    after = eventually(lambda: _try(lambda: objects.add(backup("after"))), "the API server is back", seconds=60)
    eventually(lambda: _try(lambda: condition(after(), "Ready")[1] == "BackupCompleted"), "the second backup",
               seconds=60)
    assert not operator.is_dead()


def _try(call):
    try:
        return call()
    except Exception:  # pylint: disable=broad-except
        return None


@pytest.mark.parametrize("name", FAILPOINTS)
def test_killed_at_a_failpoint_one_job_and_one_entry(operator, objects, name):
    operator.start(failpoint=f"{name}:kill")
    get = objects.add(backup("victim"))
    eventually(operator.is_dead, "the failpoint fired")
    operator.start()
    eventually(is_ready(get, "BackupCompleted"), lambda: (get().get("status"), objects.jobs()))
    status = get()["status"]
    assert [job["metadata"]["name"] for job in objects.jobs()] == ["victim-g1"]
    assert status["totals"]["succeeded"] == 1 and len(status["backupHistory"]) == 1
    eventually(lambda: is_recorded(objects.jobs()[0]), "recorded")
    assert get()["status"]["totals"]["succeeded"] == 1


def test_standby_takes_over_from_a_killed_leader(operator, objects, plane, tmp_path):
    operator.start(leader_election=True)
    first = objects.add(backup("one"))
    eventually(is_ready(first, "BackupCompleted"), lambda: first().get("status"), seconds=40)
    standby = Operator(plane.kubeconfig, tmp_path, "op-2").start(leader_election=True)
    try:
        eventually(standby.is_ready, "a standby is ready, too")
        operator.stop(kill=True)
        second = objects.add(backup("two"))
        eventually(is_ready(second, "BackupCompleted"), lambda: second().get("status"), seconds=40)
        assert {job["metadata"]["name"] for job in objects.jobs()} == {"one-g1", "two-g1"}
        assert standby.stop() == 0
    finally:
        if standby.process is not None:
            standby.stop(kill=True)


@pytest.mark.skipif("KB_SCALE" not in os.environ, reason="many objects: KB_SCALE=2000")
@pytest.mark.timeout(1200)
def test_many_objects_start_quickly_in_little_memory_and_rest(operator, objects):
    count = int(os.environ["KB_SCALE"])
    for number in range(count):
        objects.add(backup(f"many-{number}", schedule="0 3 * * *"))
    began = time.monotonic()
    operator.start()
    eventually(operator.is_ready, "ready", seconds=30)
    ready = time.monotonic() - began

    def all_of(check):
        return lambda: all(check(item) for item in objects.api.items(objects.path("kafkabackups")))
    eventually(all_of(lambda item: condition(item, "Ready") == ("True", "BackupScheduled")), "all", 300, every=2)
    scheduled = time.monotonic() - began
    operator.stop()
    operator.start()
    eventually(operator.is_ready, "ready", seconds=30)
    time.sleep(60)
    before = {item["metadata"]["uid"]: item["metadata"]["resourceVersion"]
              for item in objects.api.items(objects.path("kafkabackups"))}
    crons = objects.api.call("GET", f"/apis/batch/v1/namespaces/{objects.space}/cronjobs")[1]["items"]
    assert len(crons) == count and {cron["metadata"]["generation"] for cron in crons} == {1}
    time.sleep(10)
    after = {item["metadata"]["uid"]: item["metadata"]["resourceVersion"]
             for item in objects.api.items(objects.path("kafkabackups"))}
    assert before == after, "idle, yet something was written"
    status = pathlib.Path(f"/proc/{operator.process.pid}/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(f"{count} objects: ready {ready:.1f} s, all scheduled {scheduled:.0f} s, peak {peak:.0f} MiB")
    assert peak <= 256 and scheduled <= max(30, count * 180 / 2000)
