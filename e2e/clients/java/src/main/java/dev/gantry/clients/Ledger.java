package dev.gantry.clients;

import java.util.ArrayList;
import java.util.BitSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Counts what one consumer received of one run. Not thread-safe: the caller holds its lock. */
final class Ledger {
    private final String run;
    private final BitSet seen = new BitSet();
    private final Map<String, Long> highest = new HashMap<>();
    long received;
    long duplicates;
    long badBodies;
    long foreign;
    long orderViolations;

    Ledger(String run) {
        this.run = run;
    }

    /** Books one message. Messages of other runs are only counted, so that tests can share a topic. */
    boolean book(Body body) {
        if (!body.intact()) {
            badBodies++;
            return false;
        }
        if (!body.run().equals(run)) {
            foreign++;
            return false;
        }
        received++;
        int seq = Math.toIntExact(body.seq());
        if (seen.get(seq)) {
            // A redelivery is a duplicate, not a break of order: the first delivery counted for that.
            duplicates++;
            return true;
        }
        seen.set(seq);
        if (!body.group().isEmpty()) {
            long before = highest.getOrDefault(body.group(), -1L);
            if (seq < before) {
                orderViolations++;
            }
            highest.put(body.group(), Math.max(before, seq));
        }
        return true;
    }

    int distinct() {
        return seen.cardinality();
    }

    /** How many sequence numbers below the highest one seen were never seen (rolled-back ones are among them). */
    int missingCount() {
        return seen.length() - seen.cardinality();
    }

    /** The first of them, at most {@code limit}. */
    List<Integer> missing(int limit) {
        List<Integer> gaps = new ArrayList<>();
        for (int seq = seen.nextClearBit(0); seq < seen.length() && gaps.size() < limit; seq = seen.nextClearBit(seq + 1)) {
            gaps.add(seq);
        }
        return gaps;
    }
}
