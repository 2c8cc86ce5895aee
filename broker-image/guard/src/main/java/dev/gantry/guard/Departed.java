package dev.gantry.guard;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Consumer;
import java.util.function.LongSupplier;
import org.apache.rocketmq.client.impl.mqclient.MQClientAPIExt;
import org.apache.rocketmq.client.impl.mqclient.MQClientAPIFactory;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.remoting.exception.RemotingException;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.RequestCode;
import org.apache.rocketmq.remoting.protocol.route.BrokerData;
import org.apache.rocketmq.remoting.protocol.route.TopicRouteData;

/**
 * Ends a proxy's connections to a broker that was master, is no more and is silent: who waits for its answer hears at once that there is none, and asks the
 * new master. Goes into the image beside the changed classes.
 */
public final class Departed {
    /**
     * In milliseconds. A name server that lags behind the others names a former master again; that one has to be the only one that is named for so long
     * before it is believed.
     */
    static final long LAG = 3_000;
    /** In milliseconds: so long a former master has to answer that it lives. What it has given out already then arrives, and nothing is ended. */
    private static final long ANSWER = 500;
    /** In milliseconds: a former master that was named so lately may be named by a name server that lags behind. */
    static final long LATELY = 30_000;

    private static final Map<Object, Departed> OF = new ConcurrentHashMap<>();

    private final Map<String, Master> masters = new ConcurrentHashMap<>();
    private final Consumer<String> close;
    private final LongSupplier clock;

    /** Whom a broker group has as its master. */
    static final class Master {
        private final Map<String, Long> formerLastNamed = new HashMap<>();
        private String address;
        private long onlyFormerSince = -1;

        Master(String address) {
            this.address = address;
        }
    }

    Departed(Consumer<String> close, LongSupplier clock) {
        this.close = close;
        this.clock = clock;
    }

    /**
     * Connects routes with the connections that messages go over.
     *
     * @param routes who asks for routes
     * @param clients the connections
     */
    public static void watch(Object routes, MQClientAPIFactory clients) {
        OF.put(routes, new Departed(master -> {
            // Aside: somebody waits for the route.
            Thread thread = new Thread(() -> endIfSilent(clients, master), "DepartedMaster");
            thread.setDaemon(true);
            thread.start();
        }, System::currentTimeMillis));
    }

    private static void endIfSilent(MQClientAPIFactory clients, String master) {
        if (!answers(clients.getClient(), master)) {
            for (MQClientAPIExt client : clients.getClients()) {
                client.getRemotingClient().closeChannels(List.of(master));
            }
        }
    }

    /** Whatever it answers, also that it may not be asked, it lives. */
    private static boolean answers(MQClientAPIExt client, String broker) {
        try {
            RemotingCommand question = RemotingCommand.createRequestCommand(RequestCode.GET_BROKER_HA_STATUS, null);
            return client.getRemotingClient().invokeSync(broker, question, ANSWER) != null;
        } catch (RemotingException silent) {
            return false;
        } catch (InterruptedException ended) {
            Thread.currentThread().interrupt();
            return true;
        }
    }

    /**
     * A route that a name server has just given.
     *
     * @param routes who asked for it
     * @param route the route; may be null
     */
    public static void heard(Object routes, TopicRouteData route) {
        Departed departed = OF.get(routes);
        if (departed == null || route == null || route.getBrokerDatas() == null) {
            return;
        }
        for (BrokerData group : route.getBrokerDatas()) {
            String master = group.getBrokerAddrs() == null ? null : group.getBrokerAddrs().get(MixAll.MASTER_ID);
            // None is known for a moment at every switch, and when name servers have just started.
            if (master != null) {
                departed.heard(group.getBrokerName(), master);
            }
        }
    }

    void heard(String group, String named) {
        String departed = replaced(masters.computeIfAbsent(group, name -> new Master(named)), named, clock.getAsLong());
        if (departed != null) {
            close.accept(departed);
        }
    }

    /** Whose place the one that is named takes; null where it takes nobody's. */
    private static String replaced(Master master, String named, long now) {
        synchronized (master) {
            if (named.equals(master.address)) {
                master.onlyFormerSince = -1;
                return null;
            }
            Long lastNamed = master.formerLastNamed.put(named, now);
            if (lastNamed != null && now - lastNamed < LATELY) {
                if (master.onlyFormerSince < 0) {
                    master.onlyFormerSince = now;
                }
                if (now - master.onlyFormerSince < LAG) {
                    return null;
                }
            }
            String departed = master.address;
            master.formerLastNamed.remove(named);
            master.formerLastNamed.put(departed, now);
            master.address = named;
            master.onlyFormerSince = -1;
            return departed;
        }
    }
}
