package dev.gantry.clients;

import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;

/** Sends numbered messages one after the other and tells the fate of each. */
final class Produce extends Verb {
    private final String run = flags.required("run");
    private final String type = flags.oneOf("type", "normal", "normal", "fifo", "ordered", "delay", "transaction", "priority", "lite");
    private final long count = flags.number("count", 0);
    private final long seconds = flags.number("seconds", 0);
    private final double rate = Double.parseDouble(flags.text("rate", "0"));
    private final int groups = (int) flags.number("groups", Set.of("fifo", "ordered", "priority", "lite").contains(type) ? 4 : 0);
    private final int size = (int) flags.number("size", 0);
    private final int attempts = (int) flags.number("attempts", 1);
    private final long rollbackEvery = flags.number("rollback-every", 0);
    private final long unresolvedEvery = flags.number("unresolved-every", 0);
    private final long checkTimeoutMillis = 1000 * flags.number("check-timeout", 120);

    private final Latencies latencies = new Latencies();
    private final Set<Long> unresolved = ConcurrentHashMap.newKeySet();
    private long rolledBack;
    private long failed;
    private long checked;
    private long lastAck;
    private long maxGap;

    Produce(Flags flags, Events events) {
        super(flags, events);
        if (count == 0 && seconds == 0) {
            throw new IllegalArgumentException("--count or --seconds is missing");
        }
    }

    @Override
    String work() throws Exception {
        try (Sender sender = open(() -> Sender.open(flags, type, this::check))) {
            flags.rejectUnread();
            events.emit("ready");
            long start = events.millis();
            lastAck = start;
            long seq = 0;
            while (!isStopped() && (count == 0 || seq < count) && (seconds == 0 || events.millis() - start < seconds * 1000)) {
                if (rate > 0) {
                    pause(start + (long) (seq * 1000 / rate) - events.millis());
                }
                sendOne(sender, seq++);
            }
            maxGap = Math.max(maxGap, events.millis() - lastAck);
            double elapsed = (events.millis() - start) / 1000.0;
            awaitChecks();
            return summarise(seq, elapsed);
        }
    }

    /** A FIFO message's group, a lite message's lite topic, "g" and the number of a message's priority. */
    private String groupOf(long seq) {
        return groups == 0 ? "" : "g" + seq % groups;
    }

    private boolean isEvery(long n, long seq) {
        return n > 0 && seq % n == n - 1;
    }

    private Sender.Fate fateOf(long seq) {
        if (isEvery(rollbackEvery, seq)) {
            return Sender.Fate.ROLL_BACK;
        }
        return isEvery(unresolvedEvery, seq) ? Sender.Fate.LEAVE_TO_CHECKER : Sender.Fate.COMMIT;
    }

    private void sendOne(Sender sender, long seq) throws InterruptedException {
        String group = groupOf(seq);
        byte[] body = Body.write(run, seq, group, size);
        Sender.Fate fate = type.equals("transaction") ? fateOf(seq) : Sender.Fate.COMMIT;
        if (fate == Sender.Fate.LEAVE_TO_CHECKER) {
            unresolved.add(seq);
        }
        for (int attempt = 1; ; attempt++) {
            long begin = System.nanoTime();
            try {
                String id = sender.send(body, group, run + "-" + seq, fate);
                acknowledged(fate, seq, group, id, System.nanoTime() - begin);
                return;
            } catch (Exception error) {
                boolean last = attempt >= attempts || isStopped();
                events.emit(last ? "failed" : "retry", "seq", seq, "group", group, "attempt", attempt,
                    "ms", (System.nanoTime() - begin) / 1_000_000, "error", Events.describe(error));
                if (last) {
                    failed++;
                    unresolved.remove(seq);
                    return;
                }
                pause(200);
            }
        }
    }

    private synchronized void acknowledged(Sender.Fate fate, long seq, String group, String id, long nanos) {
        long now = events.millis();
        maxGap = Math.max(maxGap, now - lastAck);
        lastAck = now;
        String event = switch (fate) {
            case COMMIT -> "acked";
            case ROLL_BACK -> "rolledback";
            case LEAVE_TO_CHECKER -> "half";
        };
        if (fate == Sender.Fate.COMMIT) {
            latencies.add(nanos);
        } else if (fate == Sender.Fate.ROLL_BACK) {
            rolledBack++;
        }
        events.emit(event, "seq", seq, "group", group, "id", id, "ms", nanos / 10_000 / 100.0);
    }

    /** The broker asks about a half message of ours: the same rule as the sender's, except that none stays open. */
    private synchronized Boolean check(byte[] bytes) {
        Body body = Body.read(bytes);
        if (!body.intact() || !body.run().equals(run)) {
            return null;
        }
        boolean commit = !isEvery(rollbackEvery, body.seq());
        events.emit("checked", "seq", body.seq(), "group", body.group(), "commit", commit);
        if (unresolved.remove(body.seq())) {
            checked++;
            notifyAll();
        }
        return commit;
    }

    /** Half messages are asked about after the broker's transactionTimeOut (6 s), every transactionCheckInterval (30 s). */
    private void awaitChecks() throws InterruptedException {
        long deadline = events.millis() + checkTimeoutMillis;
        while (!unresolved.isEmpty() && !isStopped() && events.millis() < deadline) {
            pause(deadline - events.millis());
        }
        if (checked > 0) {
            // The answer leaves after the checker returned; closing at once would cut it off.
            pause(1000);
        }
    }

    private String summarise(long sent, double elapsed) {
        String reason = null;
        if (failed > 0) {
            reason = failed + " of " + sent + " messages failed";
        } else if (!unresolved.isEmpty()) {
            reason = unresolved.size() + " half messages were never asked about";
        } else if (count > 0 && sent < count) {
            reason = "stopped after " + sent + " of " + count + " messages";
        }
        events.emit("summary", "ok", reason == null, "reason", reason == null ? "" : reason, "sent", sent,
            "acked", latencies.count() + checked, "rolledback", rolledBack, "failed", failed, "checked", checked,
            "seconds", elapsed, "p50_ms", latencies.percentile(50), "p99_ms", latencies.percentile(99), "max_gap_ms", maxGap);
        return reason;
    }
}
