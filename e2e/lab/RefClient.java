import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.BufferedReader;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * The reference client of the tests: Apache Kafka's own client behind a line protocol, so that nothing that the
 * worker is made of judges the worker.
 *
 * <p>Arguments: a properties file for all clients (bootstrap.servers and security). Each line of standard input
 * is a JSON object with "cmd" and that command's fields; each gets one line of JSON, {"ok": true, ...} or
 * {"ok": false, "error": ...}. Ends with the input. refclient.py is the other side and documents the commands.
 *
 * <p>Records travel in files. A record is u32 length of what follows, i64 timestamp, i64 offset, i32 key length
 * (-1 = null), key, i32 value length (-1 = null), value, u16 header count, then for each header u16 name length,
 * name, i32 value length (-1 = null), value; all little-endian. In files to produce, an i32 partition goes before
 * each record, the offset means nothing, and the timestamp Long.MIN_VALUE is "none given".
 */
public final class RefClient {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final long NO_TIMESTAMP = Long.MIN_VALUE;
    private static final Duration READ_STALL = Duration.ofSeconds(60);

    private final Properties base;
    private final Admin admin;
    private final Map<String, KafkaProducer<byte[], byte[]>> openTransactions = new HashMap<>();
    private final Map<String, KafkaConsumer<byte[], byte[]>> joined = new HashMap<>();

    private RefClient(Properties base) {
        this.base = base;
        this.admin = Admin.create(base);
    }

    public static void main(String[] args) throws IOException {
        Properties base = new Properties();
        try (InputStream in = new FileInputStream(args[0])) {
            base.load(in);
        }
        PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
        System.setOut(System.err);
        RefClient client = new RefClient(base);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            ObjectNode reply = JSON.createObjectNode();
            try {
                client.run(JSON.readTree(line), reply);
                reply.put("ok", true);
            } catch (Exception e) {
                Throwable cause = e instanceof ExecutionException && e.getCause() != null ? e.getCause() : e;
                reply.put("ok", false);
                reply.put("error", cause.getClass().getSimpleName() + ": " + cause.getMessage());
            }
            out.println(JSON.writeValueAsString(reply));
        }
        System.exit(0);
    }

    private void run(JsonNode c, ObjectNode reply) throws Exception {
        switch (c.get("cmd").asText()) {
            case "cluster" -> reply.put("cluster_id", admin.describeCluster().clusterId().get())
                .put("brokers", admin.describeCluster().nodes().get().size());
            case "create_topic" -> createTopic(c);
            case "delete_topic" -> deleteTopic(c.get("topic").asText());
            case "create_partitions" -> createPartitions(c);
            case "alter_configs" -> alterConfigs(c);
            case "delete_records" -> deleteRecords(c);
            case "topics" -> admin.listTopics().names().get().stream().sorted()
                .forEach(reply.putArray("topics")::add);
            case "describe" -> describe(c.get("topic").asText(), reply);
            case "offsets" -> offsets(c.get("topic").asText(), reply);
            case "produce" -> produce(c, reply);
            case "end_transaction" -> endTransaction(c);
            case "generate" -> generate(c, reply);
            case "read" -> read(c, reply);
            case "commit" -> commit(c);
            case "committed" -> committed(c, reply);
            case "delete_groups" -> admin.deleteConsumerGroups(names(c.get("groups"))).all().get();
            case "join" -> join(c);
            case "leave" -> joined.remove(c.get("group").asText()).close();
            case "next" -> next(c, reply);
            default -> throw new IllegalArgumentException("unknown command " + c.get("cmd"));
        }
    }

    // ---- topics ----

    private TopicDescription description(String topic) throws Exception {
        return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
    }

    private int partitionCount(String topic) throws Exception {
        return description(topic).partitions().size();
    }

    /** Creates a topic and waits until every partition has a leader. */
    private void createTopic(JsonNode c) throws Exception {
        String name = c.get("topic").asText();
        NewTopic topic = new NewTopic(name, Optional.of(c.get("partitions").asInt()),
            c.hasNonNull("replication") ? Optional.of((short) c.get("replication").asInt()) : Optional.empty());
        topic.configs(strings(c.get("configs")));
        admin.createTopics(List.of(topic)).all().get();
        awaitLeaders(name, c.get("partitions").asInt());
    }

    private void awaitLeaders(String name, int partitions) throws Exception {
        for (int i = 0; i < 600; i++) {
            try {
                TopicDescription d = description(name);
                if (d.partitions().size() == partitions && d.partitions().stream().allMatch(p -> p.leader() != null))
                    return;
            } catch (ExecutionException e) {
                if (!(e.getCause() instanceof UnknownTopicOrPartitionException))
                    throw e;
            }
            Thread.sleep(50);
        }
        throw new IllegalStateException("topic " + name + " has no leaders after 30 s");
    }

    private void deleteTopic(String name) throws Exception {
        admin.deleteTopics(List.of(name)).all().get();
        for (int i = 0; i < 600; i++) {
            if (!admin.listTopics().names().get().contains(name))
                return;
            Thread.sleep(50);
        }
        throw new IllegalStateException("topic " + name + " is still there after 30 s");
    }

    private void createPartitions(JsonNode c) throws Exception {
        String topic = c.get("topic").asText();
        int count = c.get("partitions").asInt();
        admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(count))).all().get();
        awaitLeaders(topic, count);
    }

    private void alterConfigs(JsonNode c) throws Exception {
        List<AlterConfigOp> ops = new ArrayList<>();
        c.get("configs").properties().forEach(e -> ops.add(new AlterConfigOp(
            new ConfigEntry(e.getKey(), e.getValue().asText("")),
            e.getValue().isNull() ? AlterConfigOp.OpType.DELETE : AlterConfigOp.OpType.SET)));
        ConfigResource topic = new ConfigResource(ConfigResource.Type.TOPIC, c.get("topic").asText());
        admin.incrementalAlterConfigs(Map.of(topic, (Collection<AlterConfigOp>) ops)).all().get();
    }

    private void deleteRecords(JsonNode c) throws Exception {
        Map<TopicPartition, RecordsToDelete> before = new HashMap<>();
        c.get("before").properties().forEach(e -> before.put(
            new TopicPartition(c.get("topic").asText(), Integer.parseInt(e.getKey())),
            RecordsToDelete.beforeOffset(e.getValue().asLong())));
        admin.deleteRecords(before).all().get();
    }

    private void describe(String name, ObjectNode reply) throws Exception {
        TopicDescription d = description(name);
        ByteBuffer id = ByteBuffer.allocate(16).putLong(d.topicId().getMostSignificantBits())
            .putLong(d.topicId().getLeastSignificantBits());
        reply.put("topic_id", Base64.getUrlEncoder().withoutPadding().encodeToString(id.array()));
        reply.put("partitions", d.partitions().size());
        reply.put("replication", d.partitions().get(0).replicas().size());
        ArrayNode leaders = reply.putArray("leaders");
        d.partitions().forEach(p -> leaders.add(p.leader() == null ? -1 : p.leader().id()));
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, name);
        ObjectNode own = reply.putObject("configs");
        ObjectNode effective = reply.putObject("effective_configs");
        admin.describeConfigs(List.of(resource)).all().get().get(resource).entries().forEach(e -> {
            effective.put(e.name(), e.value());
            if (e.source() == ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG)
                own.put(e.name(), e.value());
        });
    }

    private Map<Integer, Long> offsetsOf(String topic, OffsetSpec spec, IsolationLevel isolation) throws Exception {
        Map<TopicPartition, OffsetSpec> wanted = new HashMap<>();
        for (int p = 0; p < partitionCount(topic); p++)
            wanted.put(new TopicPartition(topic, p), spec);
        Map<Integer, Long> result = new TreeMap<>();
        admin.listOffsets(wanted, new ListOffsetsOptions(isolation)).all().get()
            .forEach((tp, info) -> result.put(tp.partition(), info.offset()));
        return result;
    }

    private void offsets(String topic, ObjectNode reply) throws Exception {
        put(reply.putObject("start"), offsetsOf(topic, OffsetSpec.earliest(), IsolationLevel.READ_UNCOMMITTED));
        put(reply.putObject("end"), offsetsOf(topic, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED));
        put(reply.putObject("stable"), offsetsOf(topic, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED));
    }

    private static void put(ObjectNode node, Map<Integer, Long> offsets) {
        offsets.forEach((p, offset) -> node.put(p.toString(), offset));
    }

    // ---- writing ----

    private KafkaProducer<byte[], byte[]> producer(JsonNode c, String transactionalId) {
        Properties p = new Properties();
        p.putAll(base);
        p.put("max.request.size", Integer.toString(64 << 20));
        p.put("buffer.memory", Integer.toString(160 << 20));
        p.put("batch.size", Integer.toString(256 << 10));
        p.put("linger.ms", "5");
        p.putAll(strings(c.get("config")));
        if (transactionalId != null)
            p.put("transactional.id", transactionalId);
        KafkaProducer<byte[], byte[]> producer =
            new KafkaProducer<>(p, new ByteArraySerializer(), new ByteArraySerializer());
        if (transactionalId != null)
            producer.initTransactions();
        return producer;
    }

    /** "transaction" is the transactional id, "end" commit, abort or open (then end_transaction ends it). */
    private void produce(JsonNode c, ObjectNode reply) throws Exception {
        String id = c.hasNonNull("transaction") ? c.get("transaction").asText() : null;
        String end = id == null ? "" : c.path("end").asText("commit");
        KafkaProducer<byte[], byte[]> producer = id == null ? null : openTransactions.remove(id);
        boolean resumed = producer != null;
        if (!resumed)
            producer = producer(c, id);
        try {
            if (id != null && !resumed)
                producer.beginTransaction();
            sendFile(producer, c.get("topic").asText(), Path.of(c.get("file").asText()), reply);
            if (end.equals("open"))
                openTransactions.put(id, producer);
            else if (id != null)
                end(producer, end);
        } finally {
            if (!end.equals("open"))
                producer.close();
        }
    }

    private void endTransaction(JsonNode c) {
        try (KafkaProducer<byte[], byte[]> producer = openTransactions.remove(c.get("transaction").asText())) {
            end(producer, c.get("end").asText());
        }
    }

    private static void end(KafkaProducer<byte[], byte[]> producer, String how) {
        if (how.equals("commit"))
            producer.commitTransaction();
        else
            producer.abortTransaction();
    }

    private static void sendFile(KafkaProducer<byte[], byte[]> producer, String topic, Path file, ObjectNode reply)
            throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (DataInputStream in = new DataInputStream(new BufferedInputStream(Files.newInputStream(file), 1 << 20))) {
            for (Parsed r = Parsed.read(in); r != null; r = Parsed.read(in)) {
                Long timestamp = r.timestamp == NO_TIMESTAMP ? null : r.timestamp;
                sent.add(producer.send(
                    new ProducerRecord<>(topic, r.partition, timestamp, r.key, r.value, r.headers)));
            }
        }
        producer.flush();
        ArrayNode offsets = reply.putArray("offsets");
        for (Future<RecordMetadata> future : sent)
            offsets.add(future.get().offset());
    }

    /** Many records of one kind, fast; a pure function of the seed. */
    private void generate(JsonNode c, ObjectNode reply) throws Exception {
        String topic = c.get("topic").asText();
        long count = c.get("count").asLong();
        long time = c.path("time").asLong(System.currentTimeMillis() - count);
        int partitions = partitionCount(topic);
        Payload payload = new Payload(c.path("kind").asText("json"), c.get("size").asInt(), c.path("seed").asLong(1));
        boolean keyed = c.path("keys").asBoolean(true);
        AtomicReference<Exception> failure = new AtomicReference<>();
        try (KafkaProducer<byte[], byte[]> producer = producer(c, null)) {
            for (long i = 0; i < count && failure.get() == null; i++) {
                byte[] key = keyed ? ("key-" + i % 10007).getBytes(StandardCharsets.UTF_8) : null;
                producer.send(new ProducerRecord<>(topic, (int) (i % partitions), time + i, key, payload.next(i)),
                    (metadata, e) -> failure.compareAndSet(null, e));
            }
            producer.flush();
        }
        if (failure.get() != null)
            throw failure.get();
        reply.put("count", count);
    }

    /** Values of about one size: JSON with words (compresses three to five times), or noise. */
    private static final class Payload {
        private static final String[] WORDS = ("order payment customer shipped pending region berlin oslo madrid "
            + "invoice refund basket session device mobile desktop web checkout coupon price total currency euro "
            + "dollar status created updated archived warehouse carrier tracking label return exchange").split(" ");
        private final String kind;
        private final int size;
        private final SplittableRandom random;

        Payload(String kind, int size, long seed) {
            this.kind = kind;
            this.size = size;
            this.random = new SplittableRandom(seed);
        }

        byte[] next(long number) {
            if (kind.equals("random")) {
                byte[] noise = new byte[size];
                random.nextBytes(noise);
                return noise;
            }
            StringBuilder s = new StringBuilder(size + 64);
            s.append("{\"id\":").append(number).append(",\"uuid\":\"").append(Long.toHexString(random.nextLong()))
                .append("\",\"amount\":").append(random.nextInt(1000000) / 100.0).append(",\"items\":[\"");
            while (s.length() < size - 3)
                s.append(WORDS[random.nextInt(WORDS.length)]).append(random.nextInt(100)).append("\",\"");
            s.setLength(Math.max(size - 3, 1));
            return s.append("\"]}").toString().getBytes(StandardCharsets.UTF_8);
        }
    }

    // ---- groups ----

    private static List<String> names(JsonNode list) {
        List<String> result = new ArrayList<>();
        list.forEach(e -> result.add(e.asText()));
        return result;
    }

    /** Commits "offsets" {topic: {partition: offset}} for each group of "groups" {group: offsets}. */
    private void commit(JsonNode c) throws Exception {
        String metadata = c.path("metadata").asText("");
        List<Future<Void>> sent = new ArrayList<>();
        c.get("groups").properties().forEach(group -> {
            Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
            group.getValue().properties().forEach(topic -> topic.getValue().properties().forEach(e -> offsets.put(
                new TopicPartition(topic.getKey(), Integer.parseInt(e.getKey())),
                new OffsetAndMetadata(e.getValue().asLong(), metadata))));
            sent.add(admin.alterConsumerGroupOffsets(group.getKey(), offsets).all());
        });
        for (Future<Void> one : sent)
            one.get();
    }

    private void committed(JsonNode c, ObjectNode reply) throws Exception {
        ObjectNode groups = reply.putObject("groups");
        for (String group : names(c.get("groups"))) {
            ObjectNode topics = groups.putObject(group);
            admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().forEach((tp, offset) -> {
                if (offset != null)
                    topics.withObject("/" + tp.topic().replace("~", "~0").replace("/", "~1"))
                        .putObject(Integer.toString(tp.partition()))
                        .put("offset", offset.offset()).put("metadata", offset.metadata());
            });
        }
    }

    private KafkaConsumer<byte[], byte[]> member(JsonNode c, String group) {
        Properties p = new Properties();
        p.putAll(base);
        p.put("group.id", group);
        p.put("group.protocol", c.path("protocol").asText("classic"));
        p.put("client.id", c.path("client").asText("reference"));
        p.put("auto.offset.reset", c.path("reset").asText("earliest"));
        p.put("enable.auto.commit", "false");
        p.put("fetch.max.wait.ms", "10");
        p.put("retry.backoff.ms", "10");
        return new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** Joins a group and stays in it until "leave"; commits what it has read when "commit" is true. */
    private void join(JsonNode c) {
        String group = c.get("group").asText();
        KafkaConsumer<byte[], byte[]> consumer = member(c, group);
        consumer.subscribe(names(c.get("topics")));
        for (int i = 0; i < 300 && consumer.assignment().isEmpty(); i++)
            consumer.poll(Duration.ofMillis(100));
        if (consumer.assignment().isEmpty())
            throw new IllegalStateException("no partition was assigned");
        if (c.path("commit").asBoolean(false)) {
            Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
            consumer.assignment().forEach(tp -> offsets.put(tp, new OffsetAndMetadata(consumer.position(tp))));
            consumer.commitSync(offsets);
        }
        joined.put(group, consumer);
    }

    /** The first record that each group would read next of each partition where it has an offset; null at the end. */
    private void next(JsonNode c, ObjectNode reply) throws Exception {
        ObjectNode groups = reply.putObject("groups");
        for (String group : names(c.get("groups"))) {
            ObjectNode result = groups.putObject(group);
            List<TopicPartition> partitions = new ArrayList<>(
                admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().keySet());
            try (KafkaConsumer<byte[], byte[]> consumer = member(c, group)) {
                consumer.assign(partitions);
                Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
                Map<TopicPartition, ConsumerRecord<byte[], byte[]>> first = new HashMap<>();
                long deadline = System.nanoTime() + READ_STALL.toNanos();
                while (partitions.stream().anyMatch(
                        tp -> !first.containsKey(tp) && consumer.position(tp) < ends.get(tp))) {
                    if (System.nanoTime() > deadline)
                        throw new IllegalStateException("nothing came for group " + group);
                    consumer.poll(Duration.ofMillis(50)).forEach(
                        r -> first.putIfAbsent(new TopicPartition(r.topic(), r.partition()), r));
                }
                for (TopicPartition tp : partitions) {
                    ObjectNode topic = result.withObject("/" + tp.topic());
                    ConsumerRecord<byte[], byte[]> r = first.get(tp);
                    String value = r == null || r.value() == null
                        ? null : new String(r.value(), StandardCharsets.UTF_8);
                    topic.put(Integer.toString(tp.partition()), value);
                }
            }
        }
    }

    // ---- reading ----

    /**
     * Reads the partitions of a topic from "from" (default: log start) up to "to" (default: what the isolation level
     * shows now) and replies with digests; with "dir" also writes every record to DIR/PARTITION.
     */
    private void read(JsonNode c, ObjectNode reply) throws Exception {
        String topic = c.get("topic").asText();
        IsolationLevel isolation = c.path("isolation").asText("read_committed").equals("read_committed")
            ? IsolationLevel.READ_COMMITTED : IsolationLevel.READ_UNCOMMITTED;
        Map<Integer, Long> from = offsetsOf(topic, OffsetSpec.earliest(), isolation);
        Map<Integer, Long> to = offsetsOf(topic, OffsetSpec.latest(), isolation);
        override(from, c.get("from"));
        override(to, c.get("to"));
        Map<Integer, Reading> readings = new LinkedHashMap<>();
        Properties p = new Properties();
        p.putAll(base);
        p.put("isolation.level", isolation.toString());
        p.put("auto.offset.reset", "none");
        p.put("enable.auto.commit", "false");
        p.put("fetch.max.wait.ms", "100");
        p.put("max.poll.records", "5000");
        p.put("max.partition.fetch.bytes", Integer.toString(4 << 20));
        try (KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(p, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            for (int partition : from.keySet()) {
                Path file = c.hasNonNull("dir") ? Path.of(c.get("dir").asText(), Integer.toString(partition)) : null;
                readings.put(partition, new Reading(from.get(partition), to.get(partition), file));
            }
            readAll(consumer, topic, readings);
        }
        ObjectNode result = reply.putObject("partitions");
        for (Map.Entry<Integer, Reading> e : readings.entrySet())
            e.getValue().finish(result.putObject(e.getKey().toString()));
    }

    private static void override(Map<Integer, Long> offsets, JsonNode given) {
        if (given != null && !given.isNull())
            given.properties().forEach(e -> offsets.put(Integer.parseInt(e.getKey()), e.getValue().asLong()));
    }

    private static void readAll(KafkaConsumer<byte[], byte[]> consumer, String topic, Map<Integer, Reading> readings)
            throws Exception {
        Map<TopicPartition, Reading> open = new HashMap<>();
        readings.forEach((partition, reading) -> {
            if (reading.from < reading.to)
                open.put(new TopicPartition(topic, partition), reading);
        });
        consumer.assign(open.keySet());
        open.forEach((tp, reading) -> consumer.seek(tp, reading.from));
        long lastProgress = System.nanoTime();
        while (!open.isEmpty()) {
            for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofMillis(200))) {
                Reading reading = open.get(new TopicPartition(topic, r.partition()));
                if (reading != null && r.offset() < reading.to)
                    reading.add(r);
            }
            // The position also passes aborted records, markers and holes.
            for (TopicPartition tp : List.copyOf(open.keySet())) {
                long position = consumer.position(tp);
                if (position > open.get(tp).position) {
                    open.get(tp).position = position;
                    lastProgress = System.nanoTime();
                }
                if (position >= open.get(tp).to) {
                    open.remove(tp);
                    consumer.pause(List.of(tp));
                }
            }
            if (System.nanoTime() - lastProgress > READ_STALL.toNanos())
                throw new IllegalStateException("no progress in " + READ_STALL.toSeconds() + " s: " + open.keySet());
        }
    }

    /** What was read of one partition. */
    private static final class Reading {
        final long from;
        final long to;
        long position;
        private final OutputStream out;
        private final MessageDigest sha = MessageDigest.getInstance("SHA-256");
        // sum of SHA-256(record with offset), mod 2^256: big-endian words in longs, carries made up for at the end
        private final long[] sum = new long[8];
        private byte[] chain = new byte[32];
        private long count;
        private long bytes;
        private long first = -1;
        private long last = -1;
        private long minTime = Long.MAX_VALUE;
        private long maxTime = Long.MIN_VALUE;

        Reading(long from, long to, Path file) throws Exception {
            this.from = from;
            this.to = to;
            this.position = from;
            this.out = file == null ? null : new BufferedOutputStream(Files.newOutputStream(file), 1 << 20);
        }

        void add(ConsumerRecord<byte[], byte[]> r) throws Exception {
            ByteBuffer b = encode(r);
            int length = b.position();
            if (out != null)
                out.write(b.array(), 0, length);
            sha.update(b.array(), 4, length - 4);
            ByteBuffer whole = ByteBuffer.wrap(sha.digest());
            for (int i = 0; i < 8; i++)
                sum[i] += whole.getInt(4 * i) & 0xffffffffL;
            if ((count & 0xffffff) == 0xffffff)
                carry();
            // the same without the offset, in order
            sha.update(b.array(), 4, 8);
            sha.update(b.array(), 20, length - 20);
            byte[] content = sha.digest();
            sha.update(chain);
            chain = sha.digest(content);
            first = count == 0 ? r.offset() : first;
            last = r.offset();
            minTime = Math.min(minTime, r.timestamp());
            maxTime = Math.max(maxTime, r.timestamp());
            bytes += length;
            count++;
        }

        private void carry() {
            for (int i = 7; i > 0; i--) {
                sum[i - 1] += sum[i] >>> 32;
                sum[i] &= 0xffffffffL;
            }
            sum[0] &= 0xffffffffL;
        }

        void finish(ObjectNode reply) throws IOException {
            if (out != null)
                out.close();
            carry();
            BigInteger digest = BigInteger.ZERO;
            for (long word : sum)
                digest = digest.shiftLeft(32).or(BigInteger.valueOf(word));
            reply.put("from", from).put("to", to).put("count", count).put("bytes", bytes);
            reply.put("first", first).put("last", last);
            reply.put("digest", String.format("%064x", digest));
            reply.put("chain", String.format("%064x", new BigInteger(1, chain)));
            if (count > 0)
                reply.put("min_time", minTime).put("max_time", maxTime);
        }
    }

    /** The record in the form of the class comment, from 0 to the buffer's position. */
    private static ByteBuffer encode(ConsumerRecord<byte[], byte[]> r) {
        int size = 4 + 8 + 8 + 4 + 4 + 2 + length(r.key()) + length(r.value());
        List<byte[]> names = new ArrayList<>();
        for (Header h : r.headers()) {
            byte[] name = h.key().getBytes(StandardCharsets.UTF_8);
            names.add(name);
            size += 2 + name.length + 4 + length(h.value());
        }
        ByteBuffer b = ByteBuffer.allocate(size).order(ByteOrder.LITTLE_ENDIAN);
        b.putInt(size - 4).putLong(r.timestamp()).putLong(r.offset());
        putBytes(b, r.key());
        putBytes(b, r.value());
        b.putShort((short) names.size());
        int i = 0;
        for (Header h : r.headers()) {
            byte[] name = names.get(i++);
            b.putShort((short) name.length).put(name);
            putBytes(b, h.value());
        }
        return b;
    }

    private static int length(byte[] bytes) {
        return bytes == null ? 0 : bytes.length;
    }

    private static void putBytes(ByteBuffer b, byte[] bytes) {
        b.putInt(bytes == null ? -1 : bytes.length);
        if (bytes != null)
            b.put(bytes);
    }

    /** A record of a file to produce. */
    private record Parsed(int partition, long timestamp, byte[] key, byte[] value, RecordHeaders headers) {
        static Parsed read(DataInputStream in) throws IOException {
            byte[] head = new byte[8];
            try {
                in.readFully(head);
            } catch (EOFException e) {
                return null;
            }
            ByteBuffer h = ByteBuffer.wrap(head).order(ByteOrder.LITTLE_ENDIAN);
            int partition = h.getInt();
            byte[] body = new byte[h.getInt()];
            in.readFully(body);
            ByteBuffer b = ByteBuffer.wrap(body).order(ByteOrder.LITTLE_ENDIAN);
            long timestamp = b.getLong();
            b.getLong();
            byte[] key = getBytes(b, b.getInt());
            byte[] value = getBytes(b, b.getInt());
            RecordHeaders headers = new RecordHeaders();
            for (int n = b.getShort() & 0xffff; n > 0; n--) {
                String name = new String(getBytes(b, b.getShort() & 0xffff), StandardCharsets.UTF_8);
                headers.add(new RecordHeader(name, getBytes(b, b.getInt())));
            }
            return new Parsed(partition, timestamp, key, value, headers);
        }

        private static byte[] getBytes(ByteBuffer b, int length) {
            if (length < 0)
                return null;
            byte[] bytes = new byte[length];
            b.get(bytes);
            return bytes;
        }
    }

    private static Map<String, String> strings(JsonNode node) {
        Map<String, String> result = new HashMap<>();
        if (node != null && !node.isNull())
            node.properties().forEach(e -> result.put(e.getKey(), e.getValue().asText()));
        return result;
    }
}
