package dev.gantry.guard;

import java.util.HashSet;
import java.util.Set;
import net.bytebuddy.asm.Advice;

/** Into {@code AutoSwitchHAService.setSyncStateSet}, which is called with what the controllers have agreed to and never with anything else. */
final class Agree {
    private Agree() { }

    @Advice.OnMethodEnter
    @SuppressWarnings({"unused", "UnusedAssignment"})
    static void enter(@Advice.Argument(0) Set<Long> set, @Advice.FieldValue(value = "agreed", readOnly = false) Set<Long> agreed) {
        agreed = new HashSet<>(set);
    }
}
