//! Needs RabbitMQ and Redis; starts no process.

use std::time::Duration;

use warmq_broker::Topology;
use warmq_store::{Registration, RunnerReport};
use warmq_testkit::Cluster;
use warmq_types::ids::{AppId, Epoch, RunnerId};
use warmq_types::job::JobSpec;

#[tokio::test]
async fn cleanup_leaves_no_queue_and_no_key() {
    let cluster = Cluster::builder().start().await.unwrap();
    let app = AppId::parse("test/cleanup").unwrap();
    let channel = cluster.publisher().channel().await.unwrap();
    cluster.topology().declare_base(&channel).await.unwrap();
    cluster
        .topology()
        .declare_app(&channel, &app)
        .await
        .unwrap();
    let runner = Registration {
        app: app.clone(),
        runner: RunnerId::parse("gpu-1").unwrap(),
        epoch: Epoch(7),
        host: String::new(),
        pid: 1,
        instance: String::new(),
        engine: "none".to_owned(),
        device: "cpu".to_owned(),
        memory_budget_bytes: 0,
        models: Vec::new(),
        report: RunnerReport::default(),
    };
    let minute = Duration::from_secs(60);
    let topology = cluster.topology();
    let queue = topology.runner_queue(&runner.runner, runner.epoch);
    topology
        .declare_runner(&channel, &app, &runner.runner, runner.epoch, minute)
        .await
        .unwrap();
    cluster
        .store()
        .register(&runner, &"{}".into(), minute)
        .await
        .unwrap();
    let job = JobSpec::new(app.clone(), "x".into());
    cluster.store().create(&job).await.unwrap();
    cluster.cleanup().await.unwrap();
    assert!(cluster.store().job(job.id).await.unwrap().is_none());
    assert!(cluster.store().apps().await.unwrap().is_empty());
    for gone in [
        queue,
        topology.submissions_queue(),
        topology.shared_queue(&app),
    ] {
        // Asking for a queue that is not there closes the channel: a new one each time.
        let channel = cluster.publisher().channel().await.unwrap();
        assert!(Topology::depth(&channel, &gone).await.is_err(), "{gone}");
    }
}

#[tokio::test]
async fn a_cluster_that_is_dropped_without_cleanup_leaves_nothing_either() {
    let cluster = Cluster::builder().start().await.unwrap();
    let topology = cluster.topology().clone();
    let publisher = cluster.publisher().clone();
    let channel = publisher.channel().await.unwrap();
    topology.declare_base(&channel).await.unwrap();
    drop(cluster);
    let submissions = topology.submissions_queue();
    assert!(Topology::depth(&channel, &submissions).await.is_err());
}
