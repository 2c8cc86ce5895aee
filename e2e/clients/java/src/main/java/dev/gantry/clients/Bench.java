package dev.gantry.clients;

import java.util.concurrent.atomic.AtomicLong;

/** Sends as fast as {@code --threads} callers can for {@code --seconds}, after a warm-up that is not counted. */
final class Bench extends Verb {
    private final String type = flags.oneOf("type", "normal", "normal", "fifo", "ordered");
    private final int size = (int) flags.number("size", 256);
    private final long seconds = flags.number("seconds", 10);
    private final long warmup = flags.number("warmup", 3);
    private final int threads = (int) flags.number("threads", 4);

    private final Latencies latencies = new Latencies();
    private final AtomicLong failed = new AtomicLong();
    private volatile boolean counting;
    private volatile boolean over;

    Bench(Flags flags, Events events) {
        super(flags, events);
    }

    @Override
    String work() throws Exception {
        try (Sender sender = open(() -> Sender.open(flags, type, body -> null))) {
            flags.rejectUnread();
            Thread[] callers = new Thread[threads];
            for (int i = 0; i < threads; i++) {
                String group = "g" + i;
                callers[i] = new Thread(() -> call(sender, group), "bench-" + i);
                callers[i].start();
            }
            pause(warmup * 1000);
            counting = true;
            long start = System.nanoTime();
            pause(seconds * 1000);
            counting = false;
            double elapsed = (System.nanoTime() - start) / 1e9;
            over = true;
            for (Thread caller : callers) {
                caller.join();
            }
            return summarise(elapsed);
        }
    }

    private void call(Sender sender, String group) {
        byte[] body = Body.write("bench", 0, group, size);
        while (!over && !isStopped()) {
            long begin = System.nanoTime();
            try {
                sender.send(body, group, "bench", Sender.Fate.COMMIT);
                if (counting) {
                    latencies.add(System.nanoTime() - begin);
                }
            } catch (Exception error) {
                if (failed.incrementAndGet() <= 10) {
                    events.emit("failed", "error", Events.describe(error));
                }
            }
        }
    }

    private String summarise(double elapsed) {
        String reason = failed.get() > 0 ? failed + " sends failed" : latencies.count() == 0 ? "nothing was sent" : null;
        events.emit("summary", "ok", reason == null, "reason", reason == null ? "" : reason, "messages", latencies.count(),
            "failed", failed.get(), "threads", threads, "size", size, "seconds", Math.round(elapsed * 1000) / 1000.0,
            "per_second", Math.round(latencies.count() / elapsed), "p50_ms", latencies.percentile(50),
            "p99_ms", latencies.percentile(99));
        return reason;
    }
}
