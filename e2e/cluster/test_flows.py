"""From helm install to a proven restore, by what a user does: kubectl apply, annotate, wait, describe."""
import json
import re

import fidelity
import kbak
import stores
from node import NAMESPACE, RELEASE, condition
from records import record

CANARY = "canary-5f1d-do-not-show"


def resource(kind, name, **spec):
    return {"apiVersion": "kafka.oso.sh/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def backup(name, kafka, claim="backups", **spec):
    return resource("KafkaBackup", name, **{"kafkaCluster": {"bootstrapServers": [kafka.bootstrap]},
                                            "storage": {"storageType": "pvc", "pvc": {"claimName": claim}}, **spec})


def finished(node, namespace, name, count=1):
    """Waits until so many backups succeeded; the resource."""
    def is_done():
        found = node.get(namespace, "kafkabackup", name)
        assert found.get("status", {}).get("phase") != "Failed", condition(found, "Ready")
        return found if (found.get("status", {}).get("totals", {}).get("succeeded") or 0) >= count else None
    return node.wait(f"backup {count} of {name}", is_done)


def test_installed_chart_passes_its_own_test(node):
    assert "Phase:          Succeeded" in node.helm("test", RELEASE, "-n", NAMESPACE)
    (pod,) = node.items(NAMESPACE, "pods", "-l", "app.kubernetes.io/name=kafka-backup-operator")
    assert pod["status"]["containerStatuses"][0]["ready"]


def test_backup_to_volume_and_restore_to_point_in_time_are_exact(node, kafka, client, namespace, unique):
    folder = node.volume(namespace, "backups")
    topic = client.create_topic(f"{unique}-orders", partitions=2)
    times = [1_700_000_000_000 + i * 1000 for i in range(200)]
    client.produce(topic, [record(f"k{i}", f"v{i}", partition=i % 2, timestamp=t) for i, t in enumerate(times)])
    node.apply(namespace, backup("first", kafka, topics=[topic]))
    done = finished(node, namespace, "first")
    backup_id = done["status"]["lastBackupId"]
    assert condition(done, "Ready")[:2] == ("True", "BackupCompleted")
    assert done["status"]["phase"] == "Completed" and done["status"]["lastBackupRecords"] == 200
    assert done["status"]["run"]["state"] == "Succeeded" and done["status"]["run"]["percent"] == 100
    assert node.get(namespace, "job", "first-g1")
    fidelity.check_backup(folder, backup_id, client, [topic])

    target = f"{unique}-restored"
    node.apply(namespace, resource(
        "KafkaRestore", "back", backupId=backup_id, topics=[topic], topicMapping={topic: target},
        pitr={"timestamp": "2023-11-14T22:14:59Z"}))
    node.kubectl("wait", "-n", namespace, "--for=condition=complete", "--timeout=120s", "kafkarestore/back")
    restored = node.get(namespace, "kafkarestore", "back")
    kept = sum(1 for t in times if t <= 1_700_000_099_000)
    assert restored["status"]["restoredRecords"] == kept == 100
    assert restored["status"]["resolvedFrom"] == "KafkaBackup/first"
    cut = {p: 50 for p in (0, 1)}
    assert fidelity.chains(client, target) == fidelity.chains(client, topic, to=cut)
    code, _, err = node.run("patch", "-n", namespace, "kafkarestore", "back", "--type=merge", "-p",
                            json.dumps({"spec": {"createTopics": False}}))
    assert code != 0 and "create a new object" in err


def test_backup_runs_on_schedule_and_by_annotation(node, kafka, client, namespace, unique):
    folder = node.volume(namespace, "backups")
    topic = client.create_topic(unique)
    client.generate(topic, 100)
    node.apply(namespace, backup("often", kafka, topics=[topic], schedule="* * * * *"))
    node.wait("the CronJob", lambda: node.get(namespace, "cronjob", "often"))
    assert node.wait("Ready", lambda: condition(node.get(namespace, "kafkabackup", "often"), "Ready")[0]) == "True"
    done = finished(node, namespace, "often")
    slot = done["status"]["lastBackupId"]
    assert re.fullmatch(r"often-\d{8}-\d{4}00", slot), slot
    node.kubectl("patch", "-n", namespace, "kafkabackup", "often", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    before = finished(node, namespace, "often")["status"]["totals"]["succeeded"]
    client.generate(topic, 100, seed=2)
    node.kubectl("annotate", "-n", namespace, "kafkabackup", "often", "kafka.oso.sh/trigger-backup=now")
    done = finished(node, namespace, "often", before + 1)
    assert done["status"]["lastTriggerToken"] == "now"
    fidelity.check_backup(folder, done["status"]["backupHistory"][0]["backupId"], client, [topic])
    assert kbak.Backup(folder, slot).is_complete()


def test_backup_to_bucket_waits_for_its_secret_and_shows_none(node, kafka, client, s3, namespace, unique):
    bucket = s3.bucket(unique)
    topic = client.create_topic(unique)
    client.generate(topic, 500)
    storage = {"storageType": "s3", "s3": {"bucket": bucket, "endpoint": s3.url, "region": stores.REGION,
                                           "credentialsSecret": {"name": "s3-credentials"}}}
    node.apply(namespace, backup("cloud", kafka, topics=[topic], storage=storage))

    def reason():
        status, why, message = condition(node.get(namespace, "kafkabackup", "cloud"), "Progressing")
        return status == "True" and "s3-credentials" in message and message
    message = node.wait("the reason", reason, 60)
    assert "Secret 's3-credentials' not found" in message
    assert any(event["reason"] == "WaitingForResource" for event in node.items(namespace, "events"))
    node.apply(namespace, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3-credentials"},
                           "stringData": {"accessKey": stores.KEY, "secretKey": stores.SECRET, "note": CANARY}})
    done = finished(node, namespace, "cloud")
    assert done["status"]["lastBackupRecords"] == 500
    names = {entry["Key"] for entry in s3.client.list_objects_v2(Bucket=bucket)["Contents"]}
    assert f"{done['status']['lastBackupId']}/manifest.json" in names

    shown = node.kubectl("get", "-n", namespace, "kafka-backup,cronjobs,jobs,pods,configmaps,events", "-o", "yaml")
    shown += node.kubectl("logs", "-n", namespace, "job/cloud-g1")
    shown += node.kubectl("logs", "-n", NAMESPACE, f"deploy/{RELEASE}")
    assert stores.SECRET not in shown and CANARY not in shown


def told(node, namespace, name):
    """What a user can read about a KafkaBackup: reasons and messages of its conditions, and its events."""
    lines = [" ".join(map(str, condition(node.get(namespace, "kafkabackup", name), kind)))
             for kind in ("Ready", "Progressing", "Stalled")]
    events = node.items(namespace, "events", f"--field-selector=involvedObject.name={name}")
    return "\n".join(lines + [f"{event['reason']} {event['message']}" for event in events])


def test_reasons_of_what_cannot_work_are_told_within_a_minute(node, kafka, s3, namespace, unique):
    credentials = {"name": "s3-credentials"}

    def cloud(bucket, secret):
        return {"storageType": "s3", "s3": {"bucket": bucket, "endpoint": s3.url, "region": stores.REGION,
                                            "credentialsSecret": secret}}
    bucket = s3.bucket(unique)
    for name, data in (("s3-credentials", {"accessKey": stores.KEY, "secretKey": stores.SECRET}),
                       ("wrong", {"accessKey": stores.KEY, "secretKey": "not-the-key"}),
                       ("half", {"accessKey": stores.KEY})):
        node.apply(namespace, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})
    cases = {
        "cron": ({"schedule": "61 * * * *"}, "InvalidSchedule"),
        "zone": ({"schedule": "0 * * * *", "timeZone": "Mars/Base"}, "InvalidTimeZone"),
        "claim": ({}, "ClaimNotFound"),
        "nowhere": ({"podTemplate": {"nodeSelector": {"no": "such"}}, "storage": cloud(bucket, credentials)},
                    "Unschedulable"),
        "account": ({"serviceAccountName": "nobody"}, "ServiceAccountNotFound"),
        "half-secret": ({"storage": cloud(bucket, {"name": "half"})}, "Key 'secretKey' not found"),
        "wrong-secret": ({"storage": cloud(bucket, {"name": "wrong"})}, "SignatureDoesNotMatch"),
        "wrong-bucket": ({"storage": cloud("no-such-bucket", credentials)}, "no-such-bucket"),
    }
    node.apply(namespace, *(backup(name, kafka, claim="no-such-claim", **spec) for name, (spec, _) in cases.items()))
    for name, (_, reason) in cases.items():
        node.wait(f"{reason} of {name}, {told(node, namespace, name)}",
                  lambda: reason in told(node, namespace, name), 60)
    node.kubectl("delete", "-n", namespace, "job", "nowhere-g1")
    node.wait("JobDeleted", lambda: "JobDeleted" in told(node, namespace, "nowhere"), 60)
    assert node.get(namespace, "job", "nowhere-g1") is None


def test_exceeded_quota_is_told_and_heals(node, kafka, client, namespace, unique):
    node.volume(namespace, "backups")
    topic = client.create_topic(unique)
    node.apply(namespace, {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"},
                           "spec": {"hard": {"pods": "0"}}})
    node.apply(namespace, backup("patient", kafka, topics=[topic]))
    node.wait("QuotaExceeded", lambda: "QuotaExceeded" in told(node, namespace, "patient"), 60)
    node.kubectl("delete", "-n", namespace, "resourcequota", "none")
    finished(node, namespace, "patient")


def test_deleting_a_resource_takes_its_job_along_and_leaves_the_data(node, kafka, client, namespace, unique):
    folder = node.volume(namespace, "backups")
    topic = client.create_topic(unique)
    client.generate(topic, 10)
    node.apply(namespace, backup("gone", kafka, topics=[topic]))
    done = finished(node, namespace, "gone")
    node.kubectl("delete", "-n", namespace, "kafkabackup", "gone", "--timeout=30s")
    node.wait("the end of the Job", lambda: node.get(namespace, "job", "gone-g1") is None, 60)
    assert kbak.Backup(folder, done["status"]["lastBackupId"]).is_complete()
