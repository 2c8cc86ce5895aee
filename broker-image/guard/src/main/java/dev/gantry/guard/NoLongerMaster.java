package dev.gantry.guard;

import java.util.concurrent.TimeUnit;
import net.bytebuddy.asm.MemberSubstitution;
import org.apache.rocketmq.store.DefaultMessageStore;
import org.apache.rocketmq.store.config.BrokerRole;

/**
 * In the place of {@code System.nanoTime} in {@code GroupTransferService.doWaitTransfer}, where a master's messages wait for replicas: the time of each is
 * over as soon as the broker is master no more. Its replicas have left it, so who sent a message learns at once that it may not be kept, not after
 * {@code slaveTimeout}.
 */
public final class NoLongerMaster {
    private NoLongerMaster() { }

    /**
     * The time, or one that is later than what any message waits for.
     *
     * @param store the broker's
     * @return nanoseconds, to be compared with another such time
     */
    public static long nanoTime(
        @MemberSubstitution.FieldValue("defaultMessageStore") DefaultMessageStore store
    ) {
        boolean over = Leave.begun() || store.getMessageStoreConfig().getBrokerRole() == BrokerRole.SLAVE;
        return System.nanoTime() + (over ? TimeUnit.DAYS.toNanos(1) : 0);
    }
}
