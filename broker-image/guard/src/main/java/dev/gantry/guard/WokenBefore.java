package dev.gantry.guard;

import java.io.IOException;
import java.nio.channels.Selector;
import net.bytebuddy.asm.Advice;

/** Into {@code AutoSwitchHAClient.connectMaster}, before the address is read: what woke the replica until now doesn't end its wait for the next answer. */
final class WokenBefore {
    private WokenBefore() { }

    @Advice.OnMethodEnter
    @SuppressWarnings("unused")
    static void enter(@Advice.FieldValue("selector") Selector selector) throws IOException {
        selector.selectNow();
    }
}
