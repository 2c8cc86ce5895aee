package dev.gantry.guard;

import java.nio.ByteBuffer;
import net.bytebuddy.asm.Advice;
import org.apache.rocketmq.store.ha.HAConnectionState;
import org.apache.rocketmq.store.ha.autoswitch.AutoSwitchHAClient;

/**
 * Into {@code AutoSwitchHAClient.handshakeWithMaster}: a replica that heard nothing in the time that it had, or until it was woken, gives the connection up
 * and connects to whom it is to follow now. The engine asks the same silent connection again and again.
 */
final class Unanswered {
    private Unanswered() { }

    @Advice.OnMethodEnter
    static int enter(@Advice.FieldValue("byteBufferRead") ByteBuffer heard) {
        return heard.position();
    }

    @Advice.OnMethodExit
    @SuppressWarnings("unused")
    static void exit(
        @Advice.This AutoSwitchHAClient client,
        @Advice.Enter int before,
        @Advice.FieldValue("currentState") HAConnectionState state,
        @Advice.FieldValue("byteBufferRead") ByteBuffer heard
    ) {
        if (state == HAConnectionState.HANDSHAKE && heard.position() == before) {
            client.closeMaster();
        }
    }
}
