package dev.gantry.guard;

import net.bytebuddy.asm.Advice;

/**
 * Into {@code TransactionalMessageServiceImpl.batchSendOpMessage}, which says when it wants to be called again, in ms of the epoch. Once there was a
 * transaction, it says a time in the past whenever nothing waits, and its thread turns without a pause.
 */
final class Rest {
    private Rest() { }

    @Advice.OnMethodExit
    @SuppressWarnings({"unused", "UnusedAssignment"})
    static void exit(@Advice.Return(readOnly = false) long again) {
        // 10 ms: of 400 finished transactions and more that one operation holds, a queue still takes 40,000 a second.
        again = Math.max(again, System.currentTimeMillis() + 10);
    }
}
