package dev.gantry.guard;

import java.util.Collections;
import java.util.Map;
import java.util.WeakHashMap;
import org.apache.rocketmq.store.ha.autoswitch.AutoSwitchHAClient;

/**
 * Whom a replica follows: the master that the controllers elected, at the address that they told. All brokers of a cluster send their logs from the same
 * port, under the name by which they are known. Goes into the image beside the changed classes.
 */
public final class Elected {
    private static final Map<Object, String> HOSTS = Collections.synchronizedMap(new WeakHashMap<>());

    private Elected() { }

    /**
     * Lets a replica connect to its new master now, without waiting for what name servers say of it.
     *
     * @param replica the replica's side of the connection
     * @param master address of the elected master
     * @param port where brokers send their logs from
     */
    public static void follow(AutoSwitchHAClient replica, String master, int port) {
        HOSTS.put(replica, host(master));
        replica.updateHaMasterAddress(host(master) + ":" + port);
    }

    /**
     * Is this an address of somebody else than the elected master? A name server says so that has not heard of the election yet.
     *
     * @param replica the replica's side of the connection
     * @param address where a log is sent from, or nothing
     * @return false also where nobody was elected yet
     */
    public static boolean isAnother(AutoSwitchHAClient replica, String address) {
        String elected = HOSTS.get(replica);
        return elected != null && address != null && !address.isEmpty() && !elected.equals(host(address));
    }

    private static String host(String address) {
        int colon = address.lastIndexOf(':');
        return colon < 0 ? address : address.substring(0, colon);
    }
}
