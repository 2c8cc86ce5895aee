package dev.gantry.guard;

import java.util.Set;
import net.bytebuddy.asm.Advice;

/** Into {@code AutoSwitchHAService.getSyncStateSet}, the replicas that must have a message: those, too, that the controllers may still elect. */
final class WaitForAgreed {
    private WaitForAgreed() { }

    @Advice.OnMethodExit
    @SuppressWarnings("unused")
    static void exit(@Advice.Return Set<Long> set, @Advice.FieldValue("agreed") Set<Long> agreed) {
        if (agreed != null) {
            set.addAll(agreed);
        }
    }
}
