package dev.gantry.guard;

import java.lang.reflect.Field;
import java.util.concurrent.ExecutorService;
import org.apache.rocketmq.broker.BrokerController;
import org.apache.rocketmq.broker.controller.ReplicasManager;
import org.apache.rocketmq.broker.out.BrokerOuterAPI;
import org.apache.rocketmq.remoting.RemotingClient;
import org.apache.rocketmq.store.config.BrokerRole;

/**
 * A master that stops lets the controllers elect another one first. They do so when its connection to them ends, which the engine ends last, seconds after it
 * has sent its clients away. Goes into the image beside the changed classes.
 */
public final class Leave {
    /** Of BrokerOuterAPI: what the connections to controllers are made by. */
    static final String CLIENT = "remotingClient";
    private static volatile boolean begun;

    private Leave() { }

    /** Is this process's broker a master that stops? */
    public static boolean begun() {
        return begun;
    }

    /**
     * Ends the connections to the controllers, and makes no new ones.
     *
     * @param broker the broker that stops
     * @param heartbeats whose thread tells the controllers that it lives
     */
    public static void now(BrokerController broker, ExecutorService heartbeats) {
        ReplicasManager replicas = broker.getReplicasManager();
        if (replicas == null || broker.getMessageStoreConfig().getBrokerRole() == BrokerRole.SLAVE) {
            return;
        }
        begun = true;
        heartbeats.shutdownNow();
        replicas.shutdown();
        try {
            Field client = BrokerOuterAPI.class.getDeclaredField(CLIENT);
            client.setAccessible(true);
            ((RemotingClient) client.get(broker.getBrokerOuterAPI())).closeChannels(replicas.getAvailableControllerAddresses());
        } catch (ReflectiveOperationException | RuntimeException failure) {
            // It stops all the same, and is replaced when that is done. The log is in use until then.
            System.err.println("the controllers could not be left before the broker stops: " + failure);
        }
    }
}
