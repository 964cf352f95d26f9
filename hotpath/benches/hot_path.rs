//! `cargo bench -p fulmar-hotpath`: what each piece of the hot path takes, in time.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use fulmar_hotpath::WORKS;

fn hot_path(criterion: &mut Criterion) {
    for work in &WORKS {
        criterion.bench_function(work.name, |bencher| {
            bencher.iter_batched(work.prepare, |run| run(), BatchSize::SmallInput);
        });
    }
}

criterion_group!(pieces, hot_path);
criterion_main!(pieces);
