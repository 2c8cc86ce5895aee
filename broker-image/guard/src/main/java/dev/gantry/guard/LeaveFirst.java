package dev.gantry.guard;

import java.util.concurrent.ScheduledExecutorService;
import net.bytebuddy.asm.Advice;
import org.apache.rocketmq.broker.BrokerController;

/** Into {@code BrokerController.shutdown}, which SIGTERM leads to: see {@link Leave}. */
final class LeaveFirst {
    private LeaveFirst() { }

    @Advice.OnMethodEnter
    @SuppressWarnings("unused")
    static void enter(@Advice.This BrokerController broker, @Advice.FieldValue("brokerHeartbeatExecutorService") ScheduledExecutorService heartbeats) {
        Leave.now(broker, heartbeats);
    }
}
