package dev.gantry.clients;

/** Receives until it has what it expects, checks every body and the order within every group, and accounts for all of it. */
final class Consume extends Verb implements Receiver.Inbox {
    private final Ledger ledger = new Ledger(flags.required("run"));
    private final long expect = flags.number("expect", -1);
    private final long idleMillis = flags.number("until-idle", 0);
    private final long timeoutMillis = flags.number("timeout", 60) * 1000;
    private final long lingerMillis = flags.number("linger-ms", 500);
    private final boolean ordered = flags.isSet("ordered");
    private final boolean quiet = flags.isSet("quiet");
    private final boolean abandon = flags.isSet("abandon");
    private final boolean refuse = flags.isSet("refuse");
    private final boolean hold = flags.isSet("hold");

    private long failedCalls;
    private long firstAt = -1;
    private long lastAt;
    private long maxGap;
    private long minDelay = Long.MAX_VALUE;
    private long maxDelay;
    private boolean over;

    Consume(Flags flags, Events events) {
        super(flags, events);
        if (expect < 0 && idleMillis == 0) {
            throw new IllegalArgumentException("--expect or --until-idle is missing");
        }
    }

    @Override
    String work() throws Exception {
        Receiver receiver = open(() -> Receiver.open(flags, this));
        try {
            flags.rejectUnread();
            events.emit("ready");
            return summarise(await());
        } finally {
            close(receiver);
        }
    }

    /** A gRPC push consumer waits for its long polls when it closes, up to 20 s; {@code --abandon} does not wait for that. */
    private void close(Receiver receiver) throws Exception {
        if (!abandon) {
            receiver.close();
            return;
        }
        Thread closer = new Thread(() -> {
            try {
                receiver.close();
            } catch (Exception error) {
                System.err.println("closing: " + error);
            }
        }, "closer");
        closer.setDaemon(true);
        closer.start();
    }

    /** True when the expectation was met before the time was up. */
    private synchronized boolean await() throws InterruptedException {
        long started = events.millis();
        while (!isStopped()) {
            long now = events.millis();
            long left = started + timeoutMillis - now;
            long idleLeft = idleMillis - (now - Math.max(lastAt, started));
            if (expect >= 0 && ledger.distinct() >= expect) {
                // One more look: an exact count has to notice messages that come after the last expected one.
                pauseFor(lingerMillis);
                return true;
            }
            if (idleMillis > 0 && idleLeft <= 0) {
                return expect < 0;
            }
            if (left <= 0) {
                return false;
            }
            pause(idleMillis > 0 ? Math.min(left, idleLeft) : left);
        }
        return expect < 0;
    }

    private void pauseFor(long millis) throws InterruptedException {
        long end = events.millis() + millis;
        while (!isStopped() && events.millis() < end) {
            pause(end - events.millis());
        }
    }

    /** With {@code --hold} it answers when all is over, with {@code --refuse} that it has failed. */
    @Override
    public boolean take(Receiver.Delivery delivery) {
        note(delivery);
        if (hold) {
            awaitTheEnd();
        }
        return !refuse && !hold;
    }

    private synchronized void awaitTheEnd() {
        try {
            while (!over) {
                wait();
            }
        } catch (InterruptedException closing) {
            Thread.currentThread().interrupt();
        }
    }

    private synchronized void note(Receiver.Delivery delivery) {
        if (over) {
            return;
        }
        Body body = Body.read(delivery.body());
        boolean ours = ledger.book(body);
        if (ours || !body.intact()) {
            long delay = System.currentTimeMillis() - delivery.bornMillis();
            if (ours) {
                clock(delay);
            }
            if (!quiet) {
                events.emit("received", "seq", body.seq(), "group", body.group(), "id", delivery.id(),
                    "body_ok", body.intact(), "attempt", delivery.attempt(), "delay_ms", delay);
            }
        }
        notifyAll();
    }

    private void clock(long delay) {
        long now = events.millis();
        if (firstAt < 0) {
            firstAt = now;
        } else {
            maxGap = Math.max(maxGap, now - lastAt);
        }
        lastAt = now;
        minDelay = Math.min(minDelay, delay);
        maxDelay = Math.max(maxDelay, delay);
    }

    @Override
    public synchronized void failed(String call, Throwable error) {
        failedCalls++;
        events.emit("call_failed", "call", call, "error", Events.describe(error));
    }

    private synchronized String summarise(boolean inTime) {
        over = true;
        notifyAll();
        String reason = reason(inTime);
        events.emit("summary", "ok", reason == null, "reason", reason == null ? "" : reason, "received", ledger.received,
            "distinct", ledger.distinct(), "duplicates", ledger.duplicates, "bad_bodies", ledger.badBodies,
            "foreign", ledger.foreign, "order_violations", ledger.orderViolations,
            "missing", ledger.missing(10), "missing_count", ledger.missingCount(), "failed_calls", failedCalls,
            "first_ms", firstAt, "delay_min_ms", firstAt < 0 ? -1 : minDelay, "delay_max_ms", maxDelay,
            "max_gap_ms", maxGap, "seconds", events.millis() / 1000.0);
        return reason;
    }

    private String reason(boolean inTime) {
        if (ledger.badBodies > 0) {
            return ledger.badBodies + " bodies were not as they were sent";
        }
        if (ordered && ledger.orderViolations > 0) {
            return ledger.orderViolations + " messages came out of order";
        }
        if (expect >= 0 && ledger.distinct() != expect) {
            return "expected " + expect + " messages, received " + ledger.distinct();
        }
        return inTime ? null : "still receiving when the time was up";
    }
}
