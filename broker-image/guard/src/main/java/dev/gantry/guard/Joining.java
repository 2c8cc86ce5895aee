package dev.gantry.guard;

import java.util.List;
import java.util.Set;
import java.util.concurrent.locks.Lock;
import net.bytebuddy.asm.MemberSubstitution;
import org.apache.rocketmq.store.ha.HAConnection;
import org.apache.rocketmq.store.ha.autoswitch.AutoSwitchHAConnection;
import org.apache.rocketmq.store.ha.autoswitch.AutoSwitchHAService;

/**
 * In the place of {@code getLocalSyncStateSet} in {@code AutoSwitchHAService.maybeExpandInSyncStateSet}, which asks the controllers to count on one replica
 * more: one that they are just being asked about stays in what they are asked next. Of two replicas that join at the same time each would else take the other
 * one out again, until one of them has nothing to say for a moment.
 */
public final class Joining {
    private Joining() { }

    /**
     * What a replica is added to.
     *
     * @param service the master's
     * @param asked whether the controllers are being asked
     * @param next what they are being asked for
     * @param read held while that is read
     * @param replica who joins
     * @return with the replica only where that has joined already
     */
    public static Set<Long> with(
        @MemberSubstitution.This AutoSwitchHAService service,
        @MemberSubstitution.FieldValue("isSynchronizingSyncStateSet") boolean asked,
        @MemberSubstitution.FieldValue("remoteSyncStateSet") Set<Long> next,
        @MemberSubstitution.FieldValue("readLock") Lock read,
        @MemberSubstitution.Argument(value = 0, source = MemberSubstitution.Source.ENCLOSING_METHOD) Long replica
    ) {
        Set<Long> set = service.getLocalSyncStateSet();
        if (!asked || set.contains(replica)) {
            return set;
        }
        List<HAConnection> connections = service.getConnectionList();
        synchronized (connections) {
            read.lock();
            try {
                for (HAConnection connection : connections) {
                    Long other = ((AutoSwitchHAConnection) connection).getSlaveId();
                    if (next.contains(other) && !replica.equals(other)) {
                        set.add(other);
                    }
                }
            } finally {
                read.unlock();
            }
        }
        return set;
    }
}
