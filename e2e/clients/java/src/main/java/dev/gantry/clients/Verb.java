package dev.gantry.clients;

import java.util.List;
import java.util.concurrent.Callable;

/** One command under way: runs once, says in its summary whether everything asked for was done, and can be stopped. */
abstract class Verb {
    private static final int STARTS = 5;

    final Flags flags;
    final Events events;
    private boolean stopped;

    Verb(Flags flags, Events events) {
        this.flags = flags;
        this.events = events;
    }

    static Verb parse(List<String> words, Events events) {
        if (words.isEmpty()) {
            throw new IllegalArgumentException("one of produce, consume, bench, serve is missing");
        }
        Flags flags = new Flags(words.subList(1, words.size()));
        return switch (words.get(0)) {
            case "produce" -> new Produce(flags, events);
            case "consume" -> new Consume(flags, events);
            case "bench" -> new Bench(flags, events);
            default -> throw new IllegalArgumentException("unknown command \"" + words.get(0) + "\"");
        };
    }

    /** Does the work and prints the summary; null when all was done, else the reason why not. */
    abstract String work() throws Exception;

    /** The exit code: 0 when everything asked for was done. An error on the way there is a summary too. */
    final int run() {
        try {
            return work() == null ? 0 : 1;
        } catch (Exception error) {
            events.emit("summary", "ok", false, "reason", Events.describe(error));
            return 1;
        }
    }

    /**
     * Opens a client. One that starts while its proxy learns of the topic or goes away fails at once ("Stream is already completed"), and a
     * program is expected to try again: so does this one, and tells every attempt. Wrong flags are wrong each time.
     */
    final <T> T open(Callable<T> client) throws Exception {
        for (int attempt = 1; ; attempt++) {
            try {
                return client.call();
            } catch (IllegalArgumentException error) {
                throw error;
            } catch (Exception error) {
                if (attempt >= STARTS || isStopped()) {
                    throw error;
                }
                events.emit("start-failed", "attempt", attempt, "error", Events.describe(error));
                pause(1000);
            }
        }
    }

    final synchronized void stop() {
        stopped = true;
        notifyAll();
    }

    final synchronized boolean isStopped() {
        return stopped;
    }

    /** Waits, but not past {@link #stop}. */
    final synchronized void pause(long millis) throws InterruptedException {
        if (!stopped && millis > 0) {
            wait(millis);
        }
    }
}
