package dev.gantry.clients;

import java.util.Arrays;

/** Every latency of a run, in nanoseconds, so that percentiles are exact. */
final class Latencies {
    private long[] nanos = new long[1024];
    private int count;

    synchronized void add(long value) {
        if (count == nanos.length) {
            nanos = Arrays.copyOf(nanos, count * 2);
        }
        nanos[count++] = value;
    }

    synchronized int count() {
        return count;
    }

    /** The value that {@code percent} of all are not above, in milliseconds with two decimals; 0 when there is none. */
    synchronized double percentile(double percent) {
        if (count == 0) {
            return 0;
        }
        long[] sorted = Arrays.copyOf(nanos, count);
        Arrays.sort(sorted);
        int index = (int) Math.ceil(percent / 100 * count) - 1;
        return Math.round(sorted[Math.max(index, 0)] / 10_000.0) / 100.0;
    }
}
