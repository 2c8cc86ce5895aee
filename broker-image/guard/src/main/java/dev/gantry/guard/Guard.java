package dev.gantry.guard;

import static net.bytebuddy.matcher.ElementMatchers.isConstructor;
import static net.bytebuddy.matcher.ElementMatchers.named;
import static net.bytebuddy.matcher.ElementMatchers.takesArgument;
import static net.bytebuddy.matcher.ElementMatchers.takesArguments;

import com.github.benmanes.caffeine.cache.LoadingCache;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.reflect.Method;
import java.net.SocketAddress;
import java.nio.channels.Selector;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.locks.Lock;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;
import net.bytebuddy.ByteBuddy;
import net.bytebuddy.asm.Advice;
import net.bytebuddy.asm.MemberSubstitution;
import net.bytebuddy.description.modifier.FieldManifestation;
import net.bytebuddy.description.modifier.Visibility;
import net.bytebuddy.dynamic.ClassFileLocator;
import net.bytebuddy.implementation.MethodCall;
import net.bytebuddy.implementation.SuperMethodCall;
import org.apache.rocketmq.broker.BrokerController;
import org.apache.rocketmq.broker.out.BrokerOuterAPI;
import org.apache.rocketmq.broker.transaction.queue.TransactionalMessageServiceImpl;
import org.apache.rocketmq.client.impl.mqclient.MQClientAPIFactory;
import org.apache.rocketmq.common.ServiceThread;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.proxy.common.ProxyContext;
import org.apache.rocketmq.proxy.processor.DefaultMessagingProcessor;
import org.apache.rocketmq.proxy.service.message.ClusterMessageService;
import org.apache.rocketmq.proxy.service.route.MessageQueueView;
import org.apache.rocketmq.proxy.service.route.TopicRouteService;
import org.apache.rocketmq.remoting.protocol.RemotingCommand;
import org.apache.rocketmq.remoting.protocol.route.TopicRouteData;
import org.apache.rocketmq.store.CommitLog;
import org.apache.rocketmq.store.DefaultMessageStore;
import org.apache.rocketmq.store.DispatchRequest;
import org.apache.rocketmq.store.ha.GroupTransferService;
import org.apache.rocketmq.store.ha.autoswitch.AutoSwitchHAClient;
import org.apache.rocketmq.store.ha.autoswitch.AutoSwitchHAService;

/**
 * Writes ten classes of the engine anew, so that a master never calls a message kept that a replica lacks which the controllers may make master, no
 * restart hides a message, nobody waits for a master that is silent or goes, clients hear of a proxy's refusals, and a broker rests after a transaction.
 * What the engine does instead: docs/design/0012-guard.md. An engine in which one of the places is not found is refused: somebody has to look whether
 * it still has the defect.
 */
public final class Guard {
    /** Where a proxy keeps routes. */
    private static final String CACHE = TopicRouteService.class.getName() + "$1";

    private Guard() { }

    /**
     * Writes the changed classes into a jar that must come before the engine's on the class path.
     *
     * @param arguments the jar
     * @throws IOException where it can't be written
     */
    public static void main(String[] arguments) throws IOException {
        try (OutputStream file = Files.newOutputStream(Path.of(arguments[0])); ZipOutputStream jar = new ZipOutputStream(file)) {
            for (Map.Entry<String, byte[]> changed : classes().entrySet()) {
                ZipEntry entry = new ZipEntry(changed.getKey().replace('.', '/') + ".class");
                // The same bytes from the same sources: no time of the build.
                entry.setTime(0);
                jar.putNextEntry(entry);
                jar.write(changed.getValue());
                jar.closeEntry();
            }
        }
    }

    /** The changed classes by their names. */
    static Map<String, byte[]> classes() {
        Map<String, byte[]> classes = new LinkedHashMap<>();
        classes.put(AutoSwitchHAService.class.getName(), service());
        classes.put(AutoSwitchHAClient.class.getName(), replica());
        classes.put(GroupTransferService.class.getName(), waiting());
        classes.put(BrokerController.class.getName(), broker());
        classes.put(CommitLog.class.getName(), log());
        classes.put(DefaultMessagingProcessor.class.getName(), processor());
        classes.put(TopicRouteService.class.getName(), routes());
        classes.put(CACHE, cache());
        classes.put(ClusterMessageService.class.getName(), messages());
        classes.put(TransactionalMessageServiceImpl.class.getName(), transactions());
        // What the changed classes call.
        for (Class<?> called : List.of(RestoreId.class, NotBefore.class, NoLongerMaster.class, Leave.class, Joining.class, Briefly.class, Elected.class, Fresh.class,
            Kept.class, Soon.class, Departed.class, Departed.Master.class)) {
            classes.put(called.getName(), ClassFileLocator.ForClassLoader.read(called));
        }
        return classes;
    }

    private static byte[] service() {
        must(AutoSwitchHAService.class, "setSyncStateSet", Set.class);
        must(AutoSwitchHAService.class, "getSyncStateSet");
        must(AutoSwitchHAService.class, "changeToSlave", String.class, int.class, Long.class);
        must(AutoSwitchHAService.class, "maybeExpandInSyncStateSet", Long.class, long.class);
        return new ByteBuddy().redefine(AutoSwitchHAService.class)
            .defineField("agreed", Set.class, Visibility.PRIVATE, FieldManifestation.VOLATILE)
            .visit(Advice.to(Agree.class).on(named("setSyncStateSet").and(takesArguments(Set.class))))
            .visit(Advice.to(WaitForAgreed.class).on(named("getSyncStateSet").and(takesArguments(0))))
            .visit(MemberSubstitution.relaxed()
                .method(named("getLocalSyncStateSet"))
                .replaceWithChain(MemberSubstitution.Substitution.Chain.Step.ForDelegation.to(
                    must(Joining.class, "with", AutoSwitchHAService.class, boolean.class, Set.class, Lock.class, Long.class)))
                .on(named("maybeExpandInSyncStateSet").and(takesArguments(Long.class, long.class))))
            .visit(Advice.to(FollowAtOnce.class).on(named("changeToSlave").and(takesArguments(String.class, int.class, Long.class))))
            .make().getBytes();
    }

    private static byte[] replica() {
        must(AutoSwitchHAClient.class, "handshakeWithMaster");
        must(AutoSwitchHAClient.class, "sendHandshakeHeader");
        must(AutoSwitchHAClient.class, "doTruncate", List.class, long.class);
        must(AutoSwitchHAClient.class, "connectMaster");
        must(AutoSwitchHAClient.class, "updateHaMasterAddress", String.class);
        must(AutoSwitchHAClient.class, "closeMasterAndWait");
        return new ByteBuddy().redefine(AutoSwitchHAClient.class)
            // Who wakes it, to stop it or with another address, does so while it waits for an answer, too.
            .defineMethod("wakeup", void.class, Visibility.PUBLIC)
            .intercept(SuperMethodCall.INSTANCE.andThen(MethodCall.invoke(must(Selector.class, "wakeup")).onField("selector")))
            .visit(Advice.to(Unanswered.class).on(named("handshakeWithMaster").and(takesArguments(0))))
            .visit(Advice.to(GreetOnce.class).on(named("sendHandshakeHeader").and(takesArguments(0))))
            .visit(Advice.to(ReportAtOnce.class).on(named("doTruncate").and(takesArguments(List.class, long.class))))
            .visit(Advice.to(NobodyElse.class).on(named("updateHaMasterAddress").and(takesArguments(String.class))))
            .visit(Advice.to(WokenBefore.class).on(named("connectMaster").and(takesArguments(0))))
            .visit(MemberSubstitution.relaxed()
                .method(named("connect").and(takesArguments(SocketAddress.class)))
                .replaceWith(must(Briefly.class, "connect", SocketAddress.class))
                .on(named("connectMaster").and(takesArguments(0))))
            .visit(MemberSubstitution.relaxed()
                .method(named("waitForRunning").and(takesArguments(long.class)))
                .replaceWith(must(Soon.class, "pause", ServiceThread.class, long.class))
                .on(named("closeMasterAndWait").and(takesArguments(0))))
            .make().getBytes();
    }

    private static byte[] waiting() {
        must(GroupTransferService.class, "doWaitTransfer");
        return new ByteBuddy().redefine(GroupTransferService.class)
            .visit(MemberSubstitution.strict()
                .method(named("nanoTime"))
                .replaceWithChain(MemberSubstitution.Substitution.Chain.Step.ForDelegation.to(
                    must(NoLongerMaster.class, "nanoTime", DefaultMessageStore.class)))
                .on(named("doWaitTransfer").and(takesArguments(0))))
            .make().getBytes();
    }

    private static byte[] broker() {
        must(BrokerController.class, "shutdown");
        try {
            BrokerOuterAPI.class.getDeclaredField(Leave.CLIENT);
        } catch (NoSuchFieldException missing) {
            throw new IllegalStateException("this engine's BrokerOuterAPI has no " + Leave.CLIENT, missing);
        }
        return new ByteBuddy().redefine(BrokerController.class)
            .visit(Advice.to(LeaveFirst.class).on(named("shutdown").and(takesArguments(0))))
            .make().getBytes();
    }

    private static byte[] log() {
        must(CommitLog.class, "needHandleHA", MessageExt.class);
        must(CommitLog.class, "getConfirmOffset");
        must(CommitLog.class, "getConfirmOffsetDirectly");
        must(CommitLog.class, "recoverNormally", long.class);
        return new ByteBuddy().redefine(CommitLog.class)
            .visit(Advice.to(FormerMaster.class).on(named("needHandleHA").and(takesArguments(MessageExt.class))))
            .visit(MemberSubstitution.strict()
                .method(named("getLocalSyncStateSet"))
                .replaceWith(must(AutoSwitchHAService.class, "getSyncStateSet"))
                .on(named("getConfirmOffset").or(named("getConfirmOffsetDirectly"))))
            // Relaxed, since 5.4.0 calls a method there that Java 17 has no more.
            .visit(MemberSubstitution.relaxed()
                .method(named("getCommitLogOffset"))
                .replaceWith(must(NotBefore.class, "offset", DispatchRequest.class))
                .on(named("recoverNormally").and(takesArguments(long.class))))
            .make().getBytes();
    }

    private static byte[] processor() {
        must(DefaultMessagingProcessor.class, "request", ProxyContext.class, String.class, RemotingCommand.class, long.class);
        return new ByteBuddy().redefine(DefaultMessagingProcessor.class)
            .visit(Advice.to(AnswerWhoAsked.class).on(named("request").and(takesArgument(2, RemotingCommand.class))))
            .make().getBytes();
    }

    private static byte[] routes() {
        must(TopicRouteService.class, "getCacheMessageQueueWrapper", LoadingCache.class, String.class);
        must(TopicRouteService.class, "buildMessageQueueView", String.class, TopicRouteData.class);
        return new ByteBuddy().redefine(TopicRouteService.class)
            .visit(Advice.to(AskBefore.class).on(named("getCacheMessageQueueWrapper").and(takesArguments(LoadingCache.class, String.class))))
            .visit(Advice.to(Heard.class).on(named("buildMessageQueueView").and(takesArguments(String.class, TopicRouteData.class))))
            .make().getBytes();
    }

    private static byte[] cache() {
        Class<?> cache;
        try {
            cache = Class.forName(CACHE);
        } catch (ClassNotFoundException missing) {
            throw new IllegalStateException(missing);
        }
        must(cache, "reload", String.class, MessageQueueView.class);
        return new ByteBuddy().redefine(cache)
            .visit(Advice.to(Keep.class).on(named("reload").and(takesArguments(String.class, MessageQueueView.class))))
            .make().getBytes();
    }

    private static byte[] messages() {
        return new ByteBuddy().redefine(ClusterMessageService.class)
            .visit(Advice.to(Watch.class).on(isConstructor().and(takesArguments(TopicRouteService.class, MQClientAPIFactory.class))))
            .make().getBytes();
    }

    private static byte[] transactions() {
        must(TransactionalMessageServiceImpl.class, "batchSendOpMessage");
        return new ByteBuddy().redefine(TransactionalMessageServiceImpl.class)
            .visit(Advice.to(Rest.class).on(named("batchSendOpMessage")))
            .make().getBytes();
    }

    private static Method must(Class<?> in, String name, Class<?>... takes) {
        try {
            return in.getDeclaredMethod(name, takes);
        } catch (NoSuchMethodException missing) {
            throw new IllegalStateException("this engine has no " + in.getSimpleName() + "." + name
                + " as it was: see in its source whether it still has the defect (docs/design/0012-guard.md)", missing);
        }
    }
}
