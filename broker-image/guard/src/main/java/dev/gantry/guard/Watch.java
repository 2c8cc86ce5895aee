package dev.gantry.guard;

import net.bytebuddy.asm.Advice;
import org.apache.rocketmq.client.impl.mqclient.MQClientAPIFactory;

/** Into the constructor of {@code ClusterMessageService}, by which messages go from a proxy to brokers: see {@link Departed}. */
final class Watch {
    private Watch() { }

    @Advice.OnMethodExit
    @SuppressWarnings("unused")
    static void exit(@Advice.Argument(0) Object routes, @Advice.Argument(1) MQClientAPIFactory clients) {
        Departed.watch(routes, clients);
    }
}
