package dev.gantry.guard;

import net.bytebuddy.asm.Advice;
import org.apache.rocketmq.remoting.protocol.route.TopicRouteData;

/** Into {@code TopicRouteService.buildMessageQueueView}, which gets every route that a name server gives: see {@link Departed}. */
final class Heard {
    private Heard() { }

    @Advice.OnMethodEnter
    @SuppressWarnings("unused")
    static void enter(@Advice.This Object routes, @Advice.Argument(1) TopicRouteData route) {
        Departed.heard(routes, route);
    }
}
