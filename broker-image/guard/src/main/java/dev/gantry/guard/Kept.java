package dev.gantry.guard;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.proxy.service.route.MessageQueueView;

/**
 * Routes that a proxy keeps for a while when a name server knows them no more: one that has just started knows none before brokers have told it. Goes into
 * the image beside the changed classes.
 */
public final class Kept {
    /** In milliseconds. Brokers tell a name server that came back within 10 to 25 s (seen). */
    private static final long PATIENCE = 30_000;
    private static final Map<String, Long> UNKNOWN_SINCE = new ConcurrentHashMap<>();

    private Kept() { }

    /**
     * The route to use from now on. That of a topic which was deleted goes after half a minute; brokers refuse its messages before.
     *
     * @param topic its name
     * @param former the route until now
     * @param now what a name server says
     * @return one of them
     */
    public static MessageQueueView route(String topic, MessageQueueView former, MessageQueueView now) {
        if (now == null || !now.isEmptyCachedQueue()) {
            UNKNOWN_SINCE.remove(topic);
            return now;
        }
        if (former.isEmptyCachedQueue()) {
            return now;
        }
        long time = System.currentTimeMillis();
        if (time - UNKNOWN_SINCE.computeIfAbsent(topic, first -> time) < PATIENCE) {
            return former;
        }
        UNKNOWN_SINCE.remove(topic);
        return now;
    }
}
