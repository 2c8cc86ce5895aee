package dev.gantry.guard;

import com.github.benmanes.caffeine.cache.LoadingCache;
import net.bytebuddy.asm.Advice;
import org.apache.rocketmq.proxy.service.route.MessageQueueView;

/** Into {@code TopicRouteService.getCacheMessageQueueWrapper}, by which a proxy looks routes up: see {@link Fresh}. */
final class AskBefore {
    private AskBefore() { }

    @Advice.OnMethodEnter
    @SuppressWarnings("unused")
    static void enter(@Advice.Argument(0) LoadingCache<String, MessageQueueView> routes, @Advice.Argument(1) String topic)
        throws InterruptedException {
        Fresh.look(routes, topic);
    }
}
