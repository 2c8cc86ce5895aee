package dev.gantry.guard;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.mockito.ArgumentMatchers.any;
import static org.mockito.ArgumentMatchers.anyLong;
import static org.mockito.ArgumentMatchers.anyString;
import static org.mockito.ArgumentMatchers.eq;
import static org.mockito.Mockito.CALLS_REAL_METHODS;
import static org.mockito.Mockito.RETURNS_DEEP_STUBS;
import static org.mockito.Mockito.after;
import static org.mockito.Mockito.mock;
import static org.mockito.Mockito.mockingDetails;
import static org.mockito.Mockito.never;
import static org.mockito.Mockito.timeout;
import static org.mockito.Mockito.verify;
import static org.mockito.Mockito.when;
import static org.mockito.Mockito.withSettings;

import com.github.benmanes.caffeine.cache.Caffeine;
import com.github.benmanes.caffeine.cache.LoadingCache;
import java.io.DataInputStream;
import java.io.IOException;
import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.SocketTimeoutException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;
import net.bytebuddy.dynamic.ClassFileLocator;
import org.apache.rocketmq.broker.BrokerController;
import org.apache.rocketmq.broker.controller.ReplicasManager;
import org.apache.rocketmq.broker.out.BrokerOuterAPI;
import org.apache.rocketmq.broker.transaction.queue.MessageQueueOpContext;
import org.apache.rocketmq.broker.transaction.queue.TransactionalMessageBridge;
import org.apache.rocketmq.broker.transaction.queue.TransactionalMessageServiceImpl;
import org.apache.rocketmq.client.exception.MQClientException;
import org.apache.rocketmq.client.impl.mqclient.MQClientAPIExt;
import org.apache.rocketmq.client.impl.mqclient.MQClientAPIFactory;
import org.apache.rocketmq.common.BrokerConfig;
import org.apache.rocketmq.common.MQVersion;
import org.apache.rocketmq.common.MixAll;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.common.message.MessageExtBrokerInner;
import org.apache.rocketmq.proxy.common.ProxyContext;
import org.apache.rocketmq.proxy.processor.DefaultMessagingProcessor;
import org.apache.rocketmq.proxy.processor.RequestBrokerProcessor;
import org.apache.rocketmq.proxy.service.message.ClusterMessageService;
import org.apache.rocketmq.proxy.service.route.MessageQueueView;
import org.apache.rocketmq.proxy.service.route.TopicRouteService;
import org.apache.rocketmq.remoting.protocol.EpochEntry;
import org.apache.rocketmq.remoting.RemotingClient;
import org.apache.rocketmq.remoting.exception.RemotingTimeoutException;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.ResponseCode;
import org.apache.rocketmq.remoting.protocol.route.BrokerData;
import org.apache.rocketmq.remoting.protocol.route.TopicRouteData;
import org.apache.rocketmq.store.CommitLog;
import org.apache.rocketmq.store.DefaultMessageStore;
import org.apache.rocketmq.store.DispatchRequest;
import org.apache.rocketmq.store.MappedFileQueue;
import org.apache.rocketmq.store.config.BrokerRole;
import org.apache.rocketmq.store.config.MessageStoreConfig;
import org.apache.rocketmq.store.ha.GroupTransferService;
import org.apache.rocketmq.store.ha.HAConnection;
import org.apache.rocketmq.store.ha.HAConnectionState;
import org.apache.rocketmq.store.ha.HAConnectionStateNotificationService;
import org.apache.rocketmq.store.ha.HAService;
import org.apache.rocketmq.store.ha.autoswitch.AutoSwitchHAClient;
import org.apache.rocketmq.store.ha.autoswitch.AutoSwitchHAConnection;
import org.apache.rocketmq.store.ha.autoswitch.AutoSwitchHAService;
import org.apache.rocketmq.store.ha.autoswitch.EpochFileCache;
import org.apache.rocketmq.store.logfile.MappedFile;
import org.junit.jupiter.api.Test;

/** Each with the engine's class and with the changed one: where the engine's own does right, a guard has become needless. */
class GuardTest {
    private static final Set<Long> ALL = Set.of(1L, 2L, 3L);

    /** The class that is tested, and the store that it is a part of. */
    private record World(ClassLoader loader, Class<?> service, Class<?> log, Object store) {
        static World engine() {
            return of(AutoSwitchHAService.class.getClassLoader());
        }

        /** The store anew with the changed classes; of the rest that of the tests. */
        static World guarded() {
            Map<String, byte[]> changed = Guard.classes();
            return of(new ClassLoader(GuardTest.class.getClassLoader()) {
                @Override
                protected synchronized Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
                    boolean anew = changed.containsKey(name) || name.startsWith("org.apache.rocketmq.store.")
                        || name.startsWith("org.apache.rocketmq.proxy.processor.") || name.startsWith("org.apache.rocketmq.broker.transaction.");
                    if (!anew || name.contains(".config.")) {
                        return super.loadClass(name, resolve);
                    }
                    Class<?> loaded = findLoadedClass(name);
                    if (loaded != null) {
                        return loaded;
                    }
                    try {
                        byte[] code = changed.containsKey(name) ? changed.get(name)
                            : ClassFileLocator.ForClassLoader.of(getParent()).locate(name).resolve();
                        return defineClass(name, code, 0, code.length);
                    } catch (IOException unreadable) {
                        throw new ClassNotFoundException(name, unreadable);
                    }
                }
            });
        }

        private static World of(ClassLoader loader) {
            try {
                Class<?> store = loader.loadClass(DefaultMessageStore.class.getName());
                return new World(loader, loader.loadClass(AutoSwitchHAService.class.getName()), loader.loadClass(CommitLog.class.getName()),
                    mock(store, RETURNS_DEEP_STUBS));
            } catch (ClassNotFoundException missing) {
                throw new AssertionError(missing);
            }
        }

        Object agreedBy(Set<Long> replicas) throws Exception {
            Object service = service().getDeclaredConstructor().newInstance();
            set(service, "defaultMessageStore", store);
            set(service, "haConnectionStateNotificationService",
                mock(loader.loadClass(HAConnectionStateNotificationService.class.getName())));
            service().getMethod("setLocalBrokerId", Long.class).invoke(service, 1L);
            agree(service, replicas);
            return service;
        }

        void agree(Object service, Set<Long> replicas) throws Exception {
            service().getMethod("setSyncStateSet", Set.class).invoke(service, replicas);
        }

        void lose(Object service, long replica) throws Exception {
            Class<?> type = loader.loadClass(AutoSwitchHAConnection.class.getName());
            Object connection = mock(type);
            when(type.getMethod("getSlaveId").invoke(connection)).thenReturn(replica);
            service().getMethod("removeConnection", loader.loadClass(HAConnection.class.getName())).invoke(service, connection);
        }

        Object waitedFor(Object service) throws Exception {
            return service().getMethod("getSyncStateSet").invoke(service);
        }

        Object newLog() throws Exception {
            Object log = mock(this.log, withSettings().defaultAnswer(CALLS_REAL_METHODS));
            set(log, "defaultMessageStore", store);
            return log;
        }
    }

    private static void set(Object object, String name, Object value) throws Exception {
        for (Class<?> type = object.getClass(); type != null; type = type.getSuperclass()) {
            for (Field field : type.getDeclaredFields()) {
                if (field.getName().equals(name)) {
                    field.setAccessible(true);
                    field.set(object, value);
                    return;
                }
            }
        }
        throw new AssertionError("no field " + name);
    }

    @Test
    void aReplicaIsWaitedForUntilTheControllersAgreeThatItIsNot() throws Exception {
        for (boolean guarded : new boolean[] {false, true}) {
            World world = guarded ? World.guarded() : World.engine();
            Object service = world.agreedBy(ALL);
            assertEquals(ALL, world.waitedFor(service));
            world.lose(service, 2);
            world.lose(service, 3);
            assertEquals(guarded ? ALL : Set.of(1L), world.waitedFor(service));
            world.agree(service, Set.of(1L));
            assertEquals(Set.of(1L), world.waitedFor(service));
        }
    }

    @Test
    void twoReplicasThatJoinAtOnceBothJoin() throws Exception {
        for (boolean guarded : new boolean[] {false, true}) {
            World world = guarded ? World.guarded() : World.engine();
            Object service = world.agreedBy(Set.of(1L));
            stub(world, new MessageStoreConfig(), service);
            Object epochs = mock(world.loader.loadClass(EpochFileCache.class.getName()));
            when(epochs.getClass().getMethod("lastEntry").invoke(epochs)).thenReturn(new EpochEntry(2, 500));
            set(service, "epochCache", epochs);
            List<Set<Long>> asked = Collections.synchronizedList(new ArrayList<>());
            // 3 has gone again before 2 comes, 4 is connected.
            for (long replica : new long[] {2, 4}) {
                Object connection = mock(world.loader.loadClass(AutoSwitchHAConnection.class.getName()));
                when(connection.getClass().getMethod("getSlaveId").invoke(connection)).thenReturn(replica);
                world.service().getMethod("addConnection", world.loader.loadClass(HAConnection.class.getName())).invoke(service, connection);
            }
            Consumer<Set<Long>> controllers = set -> asked.add(new TreeSet<>(set));
            world.service().getMethod("registerSyncStateSetChangedListener", Consumer.class).invoke(service, controllers);
            for (long replica : new long[] {3, 4, 2}) {
                world.service().getMethod("maybeExpandInSyncStateSet", Long.class, long.class).invoke(service, replica, 900L);
            }
            for (int wait = 0; wait < 600 && asked.size() < 3; wait++) {
                Thread.sleep(50);
            }
            assertEquals(List.of(Set.of(1L, 3L), Set.of(1L, 4L), guarded ? Set.of(1L, 2L, 4L) : Set.of(1L, 2L)), asked);
            world.agree(service, Set.of(1L, 2L, 4L));
            world.service().getMethod("maybeExpandInSyncStateSet", Long.class, long.class).invoke(service, 4L, 900L);
            assertEquals(Set.of(1L, 2L, 4L), world.waitedFor(service));
        }
    }

    @Test
    void nobodyReadsWhatAnAgreedReplicaLacks() throws Exception {
        for (boolean guarded : new boolean[] {false, true}) {
            World world = guarded ? World.guarded() : World.engine();
            Object service = world.agreedBy(ALL);
            MessageStoreConfig config = new MessageStoreConfig();
            config.setAllAckInSyncStateSet(true);
            stub(world, config, service);
            Object log = world.newLog();
            set(log, "confirmOffset", 700L);
            world.lose(service, 2);
            world.lose(service, 3);
            assertEquals(guarded ? 700L : 900L, log.getClass().getMethod("getConfirmOffset").invoke(log));
            assertEquals(guarded ? 700L : 900L, log.getClass().getMethod("getConfirmOffsetDirectly").invoke(log));
        }
    }

    @Test
    void aMessageThatTheFormerMasterTookWaitsForReplicas() throws Exception {
        for (boolean guarded : new boolean[] {false, true}) {
            World world = guarded ? World.guarded() : World.engine();
            MessageStoreConfig config = new MessageStoreConfig();
            stub(world, config, world.agreedBy(ALL));
            Object log = world.newLog();
            Method waits = world.log.getDeclaredMethod("needHandleHA", MessageExt.class);
            waits.setAccessible(true);
            config.setBrokerRole(BrokerRole.SLAVE);
            assertEquals(guarded, waits.invoke(log, new MessageExtBrokerInner()));
            config.setBrokerRole(BrokerRole.SYNC_MASTER);
            assertEquals(true, waits.invoke(log, new MessageExtBrokerInner()));
            MessageExtBrokerInner careless = new MessageExtBrokerInner();
            careless.setWaitStoreMsgOK(false);
            assertEquals(false, waits.invoke(log, careless));
        }
    }

    @Test
    void whatWaitsForReplicasIsAnsweredWhenItsMasterIsNoLongerOne() throws Exception {
        for (boolean guarded : new boolean[] {false, true}) {
            World world = guarded ? World.guarded() : World.engine();
            MessageStoreConfig config = new MessageStoreConfig();
            config.setBrokerRole(BrokerRole.SYNC_MASTER);
            Object master = world.agreedBy(ALL);
            stub(world, config, master);
            Class<?> type = world.loader.loadClass(GroupTransferService.class.getName());
            Object waiting = type.getConstructor(world.loader.loadClass(HAService.class.getName()), world.loader.loadClass(DefaultMessageStore.class.getName()))
                .newInstance(master, world.store);
            Class<?> message = world.loader.loadClass(CommitLog.GroupCommitRequest.class.getName());
            Object sent = message.getConstructor(long.class, long.class, int.class).newInstance(700L, 60_000L, MixAll.ALL_ACK_IN_SYNC_STATE_SET);
            CompletableFuture<?> answer = (CompletableFuture<?>) message.getMethod("future").invoke(sent);
            type.getMethod("start").invoke(waiting);
            type.getMethod("putRequest", message).invoke(waiting, sent);
            assertThrows(TimeoutException.class, () -> answer.get(500, TimeUnit.MILLISECONDS));
            config.setBrokerRole(BrokerRole.SLAVE);
            if (guarded) {
                assertEquals("FLUSH_SLAVE_TIMEOUT", answer.get(30, TimeUnit.SECONDS).toString());
            } else {
                assertThrows(TimeoutException.class, () -> answer.get(500, TimeUnit.MILLISECONDS));
            }
            type.getMethod("makeStop").invoke(waiting);
        }
    }

    @Test
    void aMasterThatStopsLeavesTheControllersBeforeItsClients() throws Exception {
        for (boolean guarded : new boolean[] {false, true}) {
            for (BrokerRole role : new BrokerRole[] {BrokerRole.SLAVE, BrokerRole.SYNC_MASTER}) {
                World world = guarded ? World.guarded() : World.engine();
                Class<?> type = world.loader.loadClass(BrokerController.class.getName());
                List<String> order = new ArrayList<>();
                RemotingClient client = mock(RemotingClient.class, call -> {
                    if (call.getMethod().getName().equals("closeChannels")) {
                        order.addAll(call.getArgument(0));
                    }
                    return null;
                });
                BrokerOuterAPI outer = mock(BrokerOuterAPI.class);
                set(outer, "remotingClient", client);
                ReplicasManager replicas = mock(ReplicasManager.class);
                when(replicas.getAvailableControllerAddresses()).thenReturn(List.of("controller-0:9878"));
                MessageStoreConfig config = new MessageStoreConfig();
                config.setBrokerRole(role);
                Object broker = mock(type, call -> switch (call.getMethod().getName()) {
                    case "shutdown" -> call.callRealMethod();
                    case "shutdownBasicService" -> {
                        order.add("clients");
                        yield null;
                    }
                    case "getReplicasManager" -> replicas;
                    case "getBrokerOuterAPI" -> outer;
                    case "getMessageStoreConfig" -> config;
                    default -> null;
                });
                ScheduledExecutorService heartbeats = Executors.newSingleThreadScheduledExecutor();
                set(broker, "brokerHeartbeatExecutorService", heartbeats);
                set(broker, "scheduledFutures", List.of());
                type.getMethod("shutdown").invoke(broker);
                boolean leaves = guarded && role == BrokerRole.SYNC_MASTER;
                assertEquals(leaves ? List.of("controller-0:9878", "clients") : List.of("clients"), order);
                assertEquals(leaves, heartbeats.isShutdown());
                heartbeats.shutdownNow();
            }
        }
    }

    @Test
    void aRestartHidesNoMessage() throws Exception {
        for (boolean guarded : new boolean[] {false, true}) {
            World world = guarded ? World.guarded() : World.engine();
            stub(world, new MessageStoreConfig(), world.agreedBy(ALL));
            // Three messages of 100 bytes, then nothing; the first has been made visible before the restart.
            Class<?> type = world.loader.loadClass(DispatchRequest.class.getName());
            List<Object> requests = new ArrayList<>();
            for (long at : new long[] {0, 100, 200, -1}) {
                requests.add(mock(type, call -> switch (call.getMethod().getName()) {
                    case "getCommitLogOffset" -> at;
                    case "getMsgSize" -> at < 0 ? -1 : 100;
                    case "isSuccess" -> at >= 0;
                    default -> null;
                }));
            }
            Iterator<Object> read = requests.iterator();
            Object log = mock(world.log, call -> switch (call.getMethod().getName()) {
                case "recoverNormally" -> call.callRealMethod();
                case "checkMessageAndReturnSize" -> read.next();
                case "getConfirmOffset" -> 0L;
                case "getMessageStore" -> world.store;
                default -> null;
            });
            Object file = mock(world.loader.loadClass(MappedFile.class.getName()));
            set(log, "defaultMessageStore", world.store);
            set(log, "mappedFileQueue", mock(world.loader.loadClass(MappedFileQueue.class.getName()),
                call -> call.getMethod().getName().equals("getMappedFiles") ? List.of(file) : null));
            world.log.getMethod("recoverNormally", long.class).invoke(log, 100L);
            List<Boolean> shown = mockingDetails(world.store).getInvocations().stream()
                .filter(call -> call.getMethod().getName().equals("onCommitLogDispatch")).map(call -> (Boolean) call.getArgument(1)).toList();
            assertEquals(List.of(false, guarded, true), shown);
        }
    }

    @Test
    void aReplicaFollowsAnotherMasterThoughTheFormerOneIsSilent() throws Exception {
        for (boolean guarded : new boolean[] {false, true}) {
            try (ServerSocket silent = listening(); ServerSocket master = listening()) {
                Replica replica = Replica.of(guarded ? World.guarded() : World.engine());
                replica.asks(silent);
                replica.isToFollow(master);
                // The engine has given up nothing when it might have had an answer, which is after 5 s.
                master.setSoTimeout(guarded ? 60_000 : 7_000);
                if (guarded) {
                    master.accept().close();
                } else {
                    assertThrows(SocketTimeoutException.class, master::accept);
                }
                replica.stop();
            }
        }
    }

    @Test
    void aReplicaFollowsWhomTheControllersElectedAndNobodyElse() throws Exception {
        for (boolean guarded : new boolean[] {false, true}) {
            try (ServerSocket master = listening(); ServerSocket former = listening()) {
                World world = guarded ? World.guarded() : World.engine();
                Replica replica = Replica.of(world, master.getLocalPort());
                Object service = world.agreedBy(ALL);
                set(service, "epochCache", replica.epochs);
                set(service, "haClient", replica.client);
                world.service().getMethod("changeToSlave", String.class, int.class, Long.class).invoke(service, "localhost:1", 2, 2L);
                // A name server that has not heard of the election yet.
                replica.isToFollow(former);
                (guarded ? master : former).setSoTimeout(60_000);
                (guarded ? master : former).accept().close();
                (guarded ? former : master).setSoTimeout(500);
                assertThrows(SocketTimeoutException.class, (guarded ? former : master)::accept);
                replica.stop();
            }
        }
    }

    @Test
    void aReplicaWhoseConnectionIsClosedComesBackSoon() throws Exception {
        isQuicker(3, (guarded, replica, master) -> {
            replica.isToFollow(master);
            replica.start();
            master.accept().close();
            long begun = System.nanoTime();
            // The engine's first wait is cut short by what woke it when it got the address.
            master.accept().close();
            master.accept().close();
            return System.nanoTime() - begun;
        });
    }

    @Test
    void aReplicaThatIsToStopWaitsForNoAnswer() throws Exception {
        isQuicker(2, (guarded, replica, silent) -> {
            replica.asks(silent);
            long begun = System.nanoTime();
            replica.stop();
            return System.nanoTime() - begun;
        });
    }

    @Test
    void aReplicaGreetsOnceAndReportsHowFarItIsAtOnce() throws Exception {
        isQuicker(2, (guarded, replica, master) -> {
            replica.isToFollow(master);
            replica.start();
            try (Socket socket = master.accept()) {
                DataInputStream from = new DataInputStream(socket.getInputStream());
                from.readNBytes(AutoSwitchHAClient.HANDSHAKE_HEADER_SIZE);
                // State, bytes that follow, where the master's log ends, epoch; then that epoch and where it began, as masters do: a moment later.
                byte[] head = ByteBuffer.allocate(20).putInt(HAConnectionState.HANDSHAKE.ordinal()).putInt(12).putLong(900).putInt(1).array();
                socket.getOutputStream().write(head);
                Thread.sleep(200);
                socket.getOutputStream().write(ByteBuffer.allocate(12).putInt(1).putLong(0).array());
                long begun = System.nanoTime();
                int greetings = 1;
                while (from.readInt() == HAConnectionState.HANDSHAKE.ordinal()) {
                    greetings++;
                    from.readNBytes(AutoSwitchHAClient.HANDSHAKE_HEADER_SIZE - 4);
                }
                long took = System.nanoTime() - begun;
                assertEquals(guarded ? 1 : 2, greetings);
                return took;
            }
        });
    }

    /** What a replica does that is told of this master, in nanoseconds. */
    private interface Timed {
        long took(boolean guarded, Replica replica, ServerSocket master) throws Exception;
    }

    private static void isQuicker(int times, Timed timed) throws Exception {
        Map<Boolean, Long> took = new HashMap<>();
        for (boolean guarded : new boolean[] {false, true}) {
            try (ServerSocket master = listening()) {
                Replica replica = Replica.of(guarded ? World.guarded() : World.engine());
                took.put(guarded, timed.took(guarded, replica, master));
                replica.stop();
            }
        }
        assertTrue(took.get(true) * times < took.get(false), "nanoseconds with the changed class and without: " + took);
    }

    @Test
    void whoWasAwayIsToldTheRouteAsItIsNow() throws Exception {
        for (boolean guarded : new boolean[] {false, true}) {
            World world = guarded ? World.guarded() : World.engine();
            Method lookUp = world.loader.loadClass(TopicRouteService.class.getName())
                .getDeclaredMethod("getCacheMessageQueueWrapper", LoadingCache.class, String.class);
            lookUp.setAccessible(true);
            for (boolean nameServersHang : new boolean[] {false, true}) {
                MessageQueueView former = mock(MessageQueueView.class);
                MessageQueueView now = mock(MessageQueueView.class);
                AtomicInteger asked = new AtomicInteger();
                CountDownLatch test = new CountDownLatch(1);
                LoadingCache<String, MessageQueueView> routes = Caffeine.newBuilder().refreshAfterWrite(Duration.ofMillis(100)).build(topic -> {
                    if (asked.getAndIncrement() == 0) {
                        return former;
                    }
                    if (nameServersHang) {
                        test.await();
                    }
                    return now;
                });
                assertEquals(former, lookUp.invoke(null, routes, "orders"));
                Thread.sleep(200);
                assertEquals(guarded && !nameServersHang ? now : former, lookUp.invoke(null, routes, "orders"),
                    "guarded " + guarded + ", name servers hang " + nameServersHang);
                test.countDown();
            }
        }
    }

    @Test
    void aRouteThatTakesLongerThanAnybodyWaitsIsThereAfterwards() throws Exception {
        for (boolean guarded : new boolean[] {false, true}) {
            World world = guarded ? World.guarded() : World.engine();
            Method lookUp = world.loader.loadClass(TopicRouteService.class.getName())
                .getDeclaredMethod("getCacheMessageQueueWrapper", LoadingCache.class, String.class);
            lookUp.setAccessible(true);
            MessageQueueView former = mock(MessageQueueView.class);
            MessageQueueView now = mock(MessageQueueView.class);
            AtomicInteger asked = new AtomicInteger();
            CountDownLatch waited = new CountDownLatch(1);
            LoadingCache<String, MessageQueueView> routes = Caffeine.newBuilder().refreshAfterWrite(Duration.ofMillis(100)).build(topic -> {
                if (asked.getAndIncrement() == 0) {
                    return former;
                }
                waited.await();
                return now;
            });
            lookUp.invoke(null, routes, "orders");
            Thread.sleep(200);
            assertEquals(former, lookUp.invoke(null, routes, "orders"));
            waited.countDown();
            // What reads it this way makes the cache refresh nothing.
            for (int look = 0; look < 100 && routes.policy().getIfPresentQuietly("orders") != now; look++) {
                Thread.sleep(50);
            }
            assertEquals(now, routes.policy().getIfPresentQuietly("orders"), "guarded " + guarded);
            assertEquals(2, asked.get(), "guarded " + guarded);
        }
    }

    @Test
    void aRouteIsKeptWhereANameServerKnowsNoneYet() throws Exception {
        for (boolean guarded : new boolean[] {false, true}) {
            World world = guarded ? World.guarded() : World.engine();
            MQClientAPIFactory factory = mock(MQClientAPIFactory.class, RETURNS_DEEP_STUBS);
            when(factory.getClient().getTopicRouteInfoFromNameServer(anyString(), anyLong()))
                .thenThrow(new MQClientException(ResponseCode.TOPIC_NOT_EXIST, "no route"));
            Class<?> type = world.loader.loadClass(TopicRouteService.class.getName() + "$1");
            Constructor<?> constructor = type.getDeclaredConstructors()[0];
            constructor.setAccessible(true);
            Object cache = constructor.newInstance(mock(world.loader.loadClass(TopicRouteService.class.getName())), factory);
            Method reload = type.getMethod("reload", String.class, MessageQueueView.class);
            reload.setAccessible(true);
            MessageQueueView former = mock(MessageQueueView.class);
            assertEquals(guarded ? former : MessageQueueView.WRAPPED_EMPTY_QUEUE, reload.invoke(cache, "orders", former));
            assertEquals(MessageQueueView.WRAPPED_EMPTY_QUEUE, reload.invoke(cache, "orders", MessageQueueView.WRAPPED_EMPTY_QUEUE));
        }
    }

    @Test
    void whoWaitsForAMasterThatIsNoneAnyMoreAndIsSilentHearsOfIt() throws Exception {
        for (boolean guarded : new boolean[] {false, true}) {
            for (boolean silent : new boolean[] {false, true}) {
                World world = guarded ? World.guarded() : World.engine();
                RemotingClient connections = mock(RemotingClient.class);
                CountDownLatch asked = new CountDownLatch(1);
                when(connections.invokeSync(eq("a:10911"), any(), anyLong())).thenAnswer(call -> {
                    asked.countDown();
                    if (silent) {
                        throw new RemotingTimeoutException("a:10911", 500);
                    }
                    return RemotingCommand.createResponseCommand(ResponseCode.NO_PERMISSION, null);
                });
                MQClientAPIExt client = mock(MQClientAPIExt.class);
                when(client.getRemotingClient()).thenReturn(connections);
                MQClientAPIFactory clients = mock(MQClientAPIFactory.class);
                when(clients.getClient()).thenReturn(client);
                when(clients.getClients()).thenReturn(new MQClientAPIExt[] {client});
                Class<?> type = world.loader.loadClass(TopicRouteService.class.getName());
                Object routes = mock(type, withSettings().defaultAnswer(CALLS_REAL_METHODS));
                world.loader.loadClass(ClusterMessageService.class.getName()).getConstructor(type, MQClientAPIFactory.class).newInstance(routes, clients);
                Method build = type.getDeclaredMethod("buildMessageQueueView", String.class, TopicRouteData.class);
                build.setAccessible(true);
                for (String master : new String[] {"a:10911", "a:10911", "b:10911"}) {
                    TopicRouteData route = new TopicRouteData();
                    route.setQueueDatas(List.of());
                    route.setBrokerDatas(List.of(new BrokerData("shop", "group", new HashMap<>(Map.of(0L, master)))));
                    build.invoke(routes, "orders", route);
                }
                assertEquals(guarded, asked.await(guarded ? 60 : 0, TimeUnit.SECONDS));
                if (guarded && silent) {
                    verify(connections, timeout(60_000)).closeChannels(List.of("a:10911"));
                } else {
                    verify(connections, after(300).never()).closeChannels(any());
                }
                verify(connections, never()).closeChannels(List.of("b:10911"));
            }
        }
    }

    @Test
    void aNameServerThatLagsBehindIsNotBelieved() {
        List<String> closed = new ArrayList<>();
        long[] now = {0};
        Departed departed = new Departed(closed::add, () -> now[0]);
        departed.heard("group", "a");
        departed.heard("group", "b");
        assertEquals(List.of("a"), closed);
        // One says the former, another one the new: for as long as it likes.
        for (int look = 0; look < 100; look++) {
            now[0] += Departed.LAG / 2;
            departed.heard("group", look % 2 == 0 ? "a" : "b");
        }
        assertEquals(List.of("a"), closed);
        // All say that it is master again.
        departed.heard("group", "a");
        now[0] += Departed.LAG;
        departed.heard("group", "a");
        assertEquals(List.of("a", "b"), closed);
        now[0] += Departed.LATELY;
        departed.heard("group", "b");
        assertEquals(List.of("a", "b", "a"), closed);
        departed.heard("other", "a");
        assertEquals(3, closed.size());
    }

    /** A replica's connection to its master. */
    private record Replica(Object client, Object epochs) {
        static Replica of(World world) throws Exception {
            return of(world, new MessageStoreConfig().getHaListenPort());
        }

        static Replica of(World world, int port) throws Exception {
            MessageStoreConfig config = new MessageStoreConfig();
            config.setHaListenPort(port);
            config.setHaSendHeartbeatInterval(500);
            stub(world, config, null);
            Class<?> store = world.store.getClass();
            when(store.getMethod("now").invoke(world.store)).thenAnswer(call -> System.currentTimeMillis());
            when(store.getMethod("truncateFiles", long.class).invoke(world.store, 900L)).thenReturn(true);
            Class<?> type = world.loader.loadClass(EpochFileCache.class.getName());
            Object epochs = type.getConstructor().newInstance();
            type.getMethod("initCacheFromEntries", List.class).invoke(epochs, List.of(new EpochEntry(1, 0)));
            Object service = mock(world.service(), call -> switch (call.getMethod().getName()) {
                case "truncateInvalidMsg" -> -1L;
                case "getDefaultMessageStore" -> world.store;
                default -> null;
            });
            return new Replica(world.loader.loadClass(AutoSwitchHAClient.class.getName())
                .getConstructor(world.service(), world.loader.loadClass(DefaultMessageStore.class.getName()), type, Long.class)
                .newInstance(service, world.store, epochs, 2L), epochs);
        }

        void isToFollow(ServerSocket master) throws Exception {
            client.getClass().getMethod("updateHaMasterAddress", String.class).invoke(client, "127.0.0.1:" + master.getLocalPort());
        }

        /** Returns when the replica waits for the answer of a master that gives none: nobody accepts, but the kernel does. */
        void asks(ServerSocket silent) throws Exception {
            isToFollow(silent);
            start();
            Method state = client.getClass().getMethod("getCurrentState");
            while (!String.valueOf(state.invoke(client)).equals("HANDSHAKE")) {
                Thread.sleep(10);
            }
            Thread.sleep(100);
        }

        void start() throws Exception {
            client.getClass().getMethod("start").invoke(client);
        }

        void stop() throws Exception {
            client.getClass().getMethod("shutdown").invoke(client);
        }
    }

    private static ServerSocket listening() throws IOException {
        return new ServerSocket(0, 8, InetAddress.getLoopbackAddress());
    }

    @Test
    void aRefusalHasTheNumberThatItsClientKnows() throws Exception {
        for (boolean guarded : new boolean[] {false, true}) {
            World world = guarded ? World.guarded() : World.engine();
            for (boolean fails : new boolean[] {false, true}) {
                CompletableFuture<RemotingCommand> broker = new CompletableFuture<>();
                Object processor = mock(world.loader.loadClass(DefaultMessagingProcessor.class.getName()),
                    withSettings().defaultAnswer(CALLS_REAL_METHODS));
                set(processor, "requestBrokerProcessor",
                    mock(world.loader.loadClass(RequestBrokerProcessor.class.getName()), call -> broker));
                RemotingCommand request = RemotingCommand.createRequestCommand(310, null);
                int id = request.getOpaque();
                AtomicInteger answered = new AtomicInteger(-1);
                CompletableFuture<?> answer = (CompletableFuture<?>) processor.getClass()
                    .getMethod("request", ProxyContext.class, String.class, RemotingCommand.class, long.class)
                    .invoke(processor, null, "broker", request, 3000L);
                CompletableFuture<Void> told = answer.handle((response, failure) -> {
                    answered.set(request.getOpaque());
                    return null;
                });
                if (fails) {
                    broker.completeExceptionally(new IllegalStateException("the broker went"));
                } else {
                    broker.complete(null);
                }
                told.join();
                assertEquals(guarded || !fails, answered.get() == id, "guarded " + guarded + ", fails " + fails);
            }
        }
    }

    @Test
    void aBrokerRestsAfterATransaction() throws Exception {
        for (boolean guarded : new boolean[] {false, true}) {
            World world = guarded ? World.guarded() : World.engine();
            Class<?> type = world.loader.loadClass(TransactionalMessageServiceImpl.class.getName());
            Object bridge = mock(world.loader.loadClass(TransactionalMessageBridge.class.getName()), RETURNS_DEEP_STUBS);
            Object controller = bridge.getClass().getMethod("getBrokerController").invoke(bridge);
            when(controller.getClass().getMethod("getBrokerConfig").invoke(controller)).thenReturn(new BrokerConfig());
            Object service = mock(type, withSettings().defaultAnswer(CALLS_REAL_METHODS));
            set(service, "transactionalMessageBridge", bridge);
            ConcurrentHashMap<Integer, Object> queues = new ConcurrentHashMap<>();
            queues.put(0, world.loader.loadClass(MessageQueueOpContext.class.getName()).getConstructor(long.class, int.class)
                .newInstance(1L, 10));
            set(service, "deleteContext", queues);
            long again = (long) type.getMethod("batchSendOpMessage").invoke(service);
            // 5.4.0 rests by itself.
            boolean rests = guarded || MQVersion.getVersionDesc(MQVersion.CURRENT_VERSION).compareTo("V5_5_0") < 0;
            assertEquals(rests, again > System.currentTimeMillis() - 5000, "again at " + again);
        }
    }

    private static void stub(World world, MessageStoreConfig config, Object service) throws Exception {
        Object store = world.store;
        Class<?> type = store.getClass();
        BrokerConfig broker = new BrokerConfig();
        broker.setEnableControllerMode(true);
        when(type.getMethod("getBrokerConfig").invoke(store)).thenReturn(broker);
        when(type.getMethod("getMessageStoreConfig").invoke(store)).thenReturn(config);
        when(type.getMethod("getMaxPhyOffset").invoke(store)).thenReturn(900L);
        when(type.getMethod("getHaService").invoke(store)).thenReturn(service);
    }
}
