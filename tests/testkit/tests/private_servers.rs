//! Private servers keep their data over a kill, and end with their handles.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use warmq_testkit::{PrivateRabbit, PrivateRedis, Testbed};
use warmq_types::ids::AppId;
use warmq_types::queue_type::QueueType;

/// After this time, a server counts as hung.
const HANG_TIMEOUT: Duration = Duration::from_millis(500);

#[tokio::test]
async fn acknowledged_writes_of_a_private_redis_survive_a_kill() {
    let mut server = PrivateRedis::start().await.unwrap();
    let client = redis::Client::open(server.url().expose()).unwrap();
    let set = async |value: u32| -> redis::RedisResult<()> {
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut set = redis::cmd("SET");
        set.arg("key").arg(value).query_async(&mut connection).await
    };
    set(1).await.unwrap();
    server.freeze().unwrap();
    assert!(tokio::time::timeout(HANG_TIMEOUT, set(2)).await.is_err());
    server.resume().unwrap();
    set(3).await.unwrap();
    server.kill9().await.unwrap();
    assert!(set(4).await.is_err());
    server.restart().await.unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let value: u32 = (redis::cmd("GET").arg("key"))
        .query_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(value, 3);
}

#[tokio::test]
async fn confirmed_messages_of_a_private_rabbitmq_survive_a_kill() {
    let mut server = PrivateRabbit::start(&["channel_max = 100"]).await.unwrap();
    let connection = warmq_broker::connect(server.url(), "test").await.unwrap();
    assert_eq!(connection.configuration().channel_max(), 100);
    let channel = connection.create_channel().await.unwrap();
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare("q".into(), durable, FieldTable::default());
    declared.await.unwrap();
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    let published = channel.basic_publish("".into(), "q".into(), options, b"kept", persistent);
    published.await.unwrap().await.unwrap();

    server.freeze().unwrap();
    let frozen = warmq_broker::connect(server.url(), "test");
    assert!(tokio::time::timeout(HANG_TIMEOUT, frozen).await.is_err());
    server.resume().unwrap();
    warmq_broker::connect(server.url(), "test").await.unwrap();

    server.kill9().await.unwrap();
    assert!(warmq_broker::connect(server.url(), "test").await.is_err());
    server.restart().await.unwrap();
    let connection = warmq_broker::connect(server.url(), "test").await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let kept = channel.basic_get("q".into(), BasicGetOptions::default());
    assert_eq!(kept.await.unwrap().unwrap().data, b"kept");
}

#[tokio::test]
async fn a_testbed_on_a_private_rabbitmq_can_have_quorum_queues() {
    let rabbit = PrivateRabbit::start(&[]).await.unwrap();
    let redis = PrivateRedis::start().await.unwrap();
    let testbed = Testbed::builder()
        .amqp_url(rabbit.url().expose())
        .redis_url(redis.url().expose())
        .queue_type(QueueType::Quorum)
        .start()
        .await
        .unwrap();
    let channel = testbed.publisher().channel().await.unwrap();
    let app = AppId::parse("test/quorum").unwrap();
    testbed.topology().declare_base(&channel).await.unwrap();
    (testbed.topology().declare_app(&channel, &app))
        .await
        .unwrap();
    // Declaring it as a classic queue is refused.
    let shared = testbed.topology().shared_queue(&app);
    let classic = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(shared.into(), classic, FieldTable::default());
    let refused = declared.await.unwrap_err().to_string();
    assert!(refused.contains("x-queue-type"), "{refused}");
    testbed.cleanup().await.unwrap();
}

#[tokio::test]
async fn a_private_rabbitmq_leaves_no_process_behind() {
    let rabbit = PrivateRabbit::start(&[]).await.unwrap();
    let folder = rabbit.log().parent().unwrap().to_owned();
    assert!(!processes_in(&folder).is_empty());
    drop(rabbit);
    let gone = async || processes_in(&folder).is_empty().then_some(());
    warmq_testkit::eventually("all its processes ended", Duration::from_secs(10), gone)
        .await
        .unwrap();
    assert!(!folder.exists());
}

/// Returns the ids of the processes that run in `folder`.
fn processes_in(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries
        .flatten()
        .filter(|entry| {
            let cwd = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            cwd.starts_with(folder)
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
