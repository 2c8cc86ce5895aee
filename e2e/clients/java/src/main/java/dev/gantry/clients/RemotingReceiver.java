package dev.gantry.clients;

import java.util.List;
import org.apache.rocketmq.client.consumer.DefaultMQPushConsumer;
import org.apache.rocketmq.client.consumer.listener.ConsumeConcurrentlyStatus;
import org.apache.rocketmq.client.consumer.listener.ConsumeOrderlyStatus;
import org.apache.rocketmq.client.consumer.listener.MessageListenerConcurrently;
import org.apache.rocketmq.client.consumer.listener.MessageListenerOrderly;
import org.apache.rocketmq.common.consumer.ConsumeFromWhere;
import org.apache.rocketmq.common.message.MessageExt;
import org.apache.rocketmq.remoting.protocol.heartbeat.MessageModel;

/**
 * The remoting push consumer; {@code --ordered} chooses the orderly listener, {@code --server-balancing} lets brokers say how messages are shared,
 * with {@code --broadcast} it gets every message, whoever else does.
 */
final class RemotingReceiver implements Receiver {
    private final DefaultMQPushConsumer consumer;

    RemotingReceiver(Flags flags, Inbox inbox) throws Exception {
        consumer = new DefaultMQPushConsumer(flags.required("consumer-group"));
        consumer.setNamesrvAddr(flags.required("endpoint"));
        consumer.setUseTLS(flags.isSet("tls"));
        consumer.setMqClientApiTimeout((int) flags.number("timeout-ms", 3000));
        consumer.setConsumeFromWhere(ConsumeFromWhere.CONSUME_FROM_FIRST_OFFSET);
        // Only such a client asks its brokers for the group's mode; proxies do not answer that, name servers as endpoint do.
        consumer.setClientRebalance(!flags.isSet("server-balancing"));
        if (flags.isSet("broadcast")) {
            consumer.setMessageModel(MessageModel.BROADCASTING);
        }
        consumer.setInstanceName("receiver-" + System.nanoTime());
        consumer.subscribe(flags.required("topic"), "*");
        if (flags.isSet("ordered")) {
            consumer.registerMessageListener((MessageListenerOrderly) (messages, context) -> {
                boolean taken = take(messages, inbox);
                return taken ? ConsumeOrderlyStatus.SUCCESS : ConsumeOrderlyStatus.SUSPEND_CURRENT_QUEUE_A_MOMENT;
            });
        } else {
            consumer.registerMessageListener((MessageListenerConcurrently) (messages, context) -> {
                boolean taken = take(messages, inbox);
                return taken ? ConsumeConcurrentlyStatus.CONSUME_SUCCESS : ConsumeConcurrentlyStatus.RECONSUME_LATER;
            });
        }
        consumer.start();
    }

    private static boolean take(List<MessageExt> messages, Inbox inbox) {
        boolean all = true;
        for (MessageExt message : messages) {
            all &= inbox.take(new Delivery(message.getMsgId(), message.getBody(), message.getReconsumeTimes() + 1,
                message.getBornTimestamp()));
        }
        return all;
    }

    @Override
    public void close() {
        consumer.shutdown();
    }
}
