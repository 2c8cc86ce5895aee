package dev.gantry.clients;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;

import java.util.List;
import org.junit.jupiter.api.Test;

class LedgerTest {
    private final Ledger ledger = new Ledger("run");

    private void book(long seq, String group) {
        ledger.book(new Body("run", seq, group, true));
    }

    @Test
    void a_smaller_number_after_a_larger_one_of_its_group_breaks_the_order() {
        book(2, "a");
        book(1, "b");
        assertEquals(0, ledger.orderViolations);
        book(0, "a");
        assertEquals(1, ledger.orderViolations);
    }

    @Test
    void a_redelivery_is_a_duplicate_and_does_not_break_the_order() {
        book(0, "a");
        book(2, "a");
        book(0, "a");
        book(4, "a");
        assertEquals(1, ledger.duplicates);
        assertEquals(0, ledger.orderViolations);
        assertEquals(4, ledger.received);
        assertEquals(3, ledger.distinct());
    }

    @Test
    void gaps_below_the_highest_number_are_missing() {
        book(1, "");
        book(4, "");
        assertEquals(3, ledger.missingCount());
        assertEquals(List.of(0, 2, 3), ledger.missing(10));
        assertEquals(List.of(0, 2), ledger.missing(2));
    }

    @Test
    void bad_bodies_and_other_runs_are_counted_apart() {
        assertFalse(ledger.book(new Body("", -1, "", false)));
        assertFalse(ledger.book(new Body("other", 7, "", true)));
        assertEquals(1, ledger.badBodies);
        assertEquals(1, ledger.foreign);
        assertEquals(0, ledger.received);
    }
}
