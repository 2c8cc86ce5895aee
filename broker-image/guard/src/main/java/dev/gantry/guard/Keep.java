package dev.gantry.guard;

import net.bytebuddy.asm.Advice;
import org.apache.rocketmq.proxy.service.route.MessageQueueView;

/** Into {@code reload} of the cache of {@code TopicRouteService}: see {@link Kept}. */
final class Keep {
    private Keep() { }

    @Advice.OnMethodExit
    @SuppressWarnings({"unused", "UnusedAssignment"})
    static void exit(
        @Advice.Argument(0) String topic,
        @Advice.Argument(1) MessageQueueView former,
        @Advice.Return(readOnly = false) MessageQueueView now
    ) {
        now = Kept.route(topic, former, now);
    }
}
