package dev.gantry.clients;

import org.apache.rocketmq.client.producer.DefaultMQProducer;
import org.apache.rocketmq.client.producer.SendResult;
import org.apache.rocketmq.client.producer.SendStatus;
import org.apache.rocketmq.client.producer.selector.SelectMessageQueueByHash;
import org.apache.rocketmq.common.message.Message;
import org.apache.rocketmq.common.message.MessageAccessor;
import org.apache.rocketmq.common.message.MessageConst;

final class RemotingSender implements Sender {
    private final DefaultMQProducer producer;
    private final String topic;
    private final String type;
    private final long delayMillis;

    RemotingSender(Flags flags, String type) throws Exception {
        this.type = type;
        topic = flags.required("topic");
        delayMillis = flags.number("delay-ms", 0);
        int timeout = (int) flags.number("timeout-ms", 3000);
        producer = new DefaultMQProducer(flags.text("producer-group", "e2e-producer"));
        producer.setNamesrvAddr(flags.required("endpoint"));
        producer.setUseTLS(flags.isSet("tls"));
        producer.setSendMsgTimeout(timeout);
        producer.setMqClientApiTimeout(timeout);
        producer.setRetryTimesWhenSendFailed((int) flags.number("client-attempts", 3) - 1);
        // One connection of its own per command: the client shares them by this name.
        producer.setInstanceName("sender-" + System.nanoTime());
        producer.start();
    }

    @Override
    public String send(byte[] body, String group, String key, Fate fate) throws Exception {
        Message message = new Message(topic, null, key, body);
        if (type.equals("delay")) {
            message.setDeliverTimeMs(System.currentTimeMillis() + delayMillis);
        }
        if (type.equals("transaction")) {
            // A half message that nobody finishes: to be sent to topics that refuse it. Real transactions are sent over gRPC here.
            MessageAccessor.putProperty(message, MessageConst.PROPERTY_TRANSACTION_PREPARED, "true");
        }
        SendResult result;
        if (type.equals("fifo") || type.equals("ordered")) {
            if (type.equals("fifo")) {
                // What makes it a FIFO message to a proxy, which takes such for FIFO topics only and no others for them, and
                // what a gRPC consumer reads the message group from. The classic ordered message has the selector alone.
                MessageAccessor.putProperty(message, MessageConst.PROPERTY_SHARDING_KEY, group);
            }
            result = producer.send(message, new SelectMessageQueueByHash(), group);
        } else {
            result = producer.send(message);
        }
        if (result.getSendStatus() != SendStatus.SEND_OK) {
            throw new IllegalStateException("the broker answered " + result.getSendStatus());
        }
        return result.getMsgId();
    }

    @Override
    public void close() {
        producer.shutdown();
    }
}
