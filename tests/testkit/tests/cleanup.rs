//! Needs RabbitMQ and Redis; starts no process.

use std::time::Duration;

use warmq_broker::Topology;
use warmq_testkit::{Testbed, registration};
use warmq_types::ids::{AppId, RunnerId};
use warmq_types::job::JobSpec;

#[tokio::test]
async fn cleanup_leaves_no_queue_and_no_key() {
    let testbed = Testbed::builder().start().await.unwrap();
    let app = AppId::parse("test/cleanup").unwrap();
    let channel = testbed.publisher().channel().await.unwrap();
    testbed.topology().declare_base(&channel).await.unwrap();
    testbed
        .topology()
        .declare_app(&channel, &app)
        .await
        .unwrap();
    let runner = registration(&app, &RunnerId::parse("gpu-1").unwrap());
    let minute = Duration::from_secs(60);
    let topology = testbed.topology();
    let queue = topology.runner_queue(&runner.runner, runner.epoch);
    topology
        .declare_runner(&channel, &app, &runner.runner, runner.epoch, minute)
        .await
        .unwrap();
    testbed
        .store()
        .membership()
        .register(&runner, &"{}".into(), minute)
        .await
        .unwrap();
    let job = JobSpec::new(app.clone(), "x".into());
    testbed.store().jobs().create(&job).await.unwrap();
    testbed.cleanup().await.unwrap();
    assert!(testbed.store().jobs().job(job.id).await.unwrap().is_none());
    assert!(
        testbed
            .store()
            .apps_in_use()
            .known()
            .await
            .unwrap()
            .is_empty()
    );
    for gone in [
        queue,
        topology.submissions_queue(),
        topology.shared_queue(&app),
    ] {
        // A passive declaration of a missing queue closes the channel: a new one each time.
        let channel = testbed.publisher().channel().await.unwrap();
        assert!(Topology::depth(&channel, &gone).await.is_err(), "{gone}");
    }
}

#[tokio::test]
async fn dropping_a_testbed_cleans_up() {
    let testbed = Testbed::builder().start().await.unwrap();
    let topology = testbed.topology().clone();
    let publisher = testbed.publisher().clone();
    let channel = publisher.channel().await.unwrap();
    topology.declare_base(&channel).await.unwrap();
    drop(testbed);
    let submissions = topology.submissions_queue();
    assert!(Topology::depth(&channel, &submissions).await.is_err());
}
