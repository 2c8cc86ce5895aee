package dev.gantry.guard;

import net.bytebuddy.asm.Advice;

/**
 * Into {@code AutoSwitchHAClient.doTruncate}, the end of a handshake: the replica's next report of how far it is is due. The engine sends it a second later
 * with {@code haSendHeartbeatInterval=500}, five with its default, and until then the master counts on nobody.
 */
final class ReportAtOnce {
    private ReportAtOnce() { }

    @Advice.OnMethodExit
    @SuppressWarnings({"unused", "UnusedAssignment"})
    static void exit(@Advice.FieldValue(value = "lastWriteTimestamp", readOnly = false) long reported) {
        reported = 0;
    }
}
