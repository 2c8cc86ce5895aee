package dev.gantry.guard;

import java.nio.ByteBuffer;
import net.bytebuddy.asm.Advice;

/**
 * Into {@code AutoSwitchHAClient.sendHandshakeHeader}: where a part of the answer is here already, the rest is waited for. The engine greets once more, and
 * when the master answers that, too, the replica closes the connection and waits for 5 s.
 */
final class GreetOnce {
    private GreetOnce() { }

    @Advice.OnMethodEnter(skipOn = Advice.OnNonDefaultValue.class)
    static boolean enter(@Advice.FieldValue("byteBufferRead") ByteBuffer heard) {
        return heard.position() > 0;
    }

    @Advice.OnMethodExit
    @SuppressWarnings({"unused", "UnusedAssignment"})
    static void exit(@Advice.Enter boolean greeted, @Advice.Return(readOnly = false) boolean sent) {
        sent |= greeted;
    }
}
