package dev.gantry.guard;

import net.bytebuddy.asm.Advice;
import org.apache.rocketmq.store.ha.HAConnectionState;
import org.apache.rocketmq.store.ha.autoswitch.AutoSwitchHAClient;

/**
 * Into {@code AutoSwitchHAClient.updateHaMasterAddress}: a replica connects to nobody but the elected master, see {@link Elected}; and where it could not
 * connect, and waits, it tries again when it hears of it once more.
 */
final class NobodyElse {
    private NobodyElse() { }

    @Advice.OnMethodEnter(skipOn = Advice.OnNonDefaultValue.class)
    static boolean enter(@Advice.This AutoSwitchHAClient replica, @Advice.Argument(0) String address) {
        if (Elected.isAnother(replica, address)) {
            return true;
        }
        if (address != null && address.equals(replica.getHaMasterAddress()) && replica.getCurrentState() == HAConnectionState.READY) {
            replica.wakeup();
        }
        return false;
    }
}
