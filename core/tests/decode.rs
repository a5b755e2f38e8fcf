//! Decoding with cached keys and values gives the logits of the plain forward pass: prompts in
//! pieces, sequences that share a prefix, leaves that grow in turns.

mod common;

use common::{Checkpoint, config, error, lora};
use paddock_core::Error;
use paddock_core::backend::Backend;
use paddock_core::batch::Batch;
use paddock_core::config::Config;
use paddock_core::decode::{Cache, NodeId, extend};
use paddock_core::forest::{Entry, Forest, Segment};
use paddock_core::model::forward::Pass;
use paddock_core::model::{Method, Model, init};
use paddock_core::philox::{Philox, Stream};
use paddock_core::plan::{Capacity, Plan, Recompute};
use paddock_core::reference::Reference;
use proptest::collection::vec;
use proptest::prelude::*;

const ROOM: Capacity =
    Capacity { tokens: 12, kept: 12, entries: 12, positions: 64, cache_rows: 200, logit_rows: 12 };

/// A model that answers.
struct Answering<'w> {
    b: Reference<'w, f64>,
    model: Model,
    plan: Plan,
}

impl<'w> Answering<'w> {
    fn new(checkpoint: &'w Checkpoint, config: &Config, method: Method, room: Capacity) -> Self {
        let mut b = Reference::<f64>::new(checkpoint.weights());
        let model = Model::new(config.clone(), method).unwrap();
        let plan = Plan::new(&model, room, Recompute::Nothing, false, &b);
        b.reserve(&plan.sizes).unwrap();
        init::init(&mut b, &model, &checkpoint.weights(), 3).unwrap();
        init::upload_rope(&mut b, &model, &plan, 0).unwrap();
        for (i, p) in model.params.items.iter().enumerate() {
            let random = Philox::new(9, Stream::init(i as u16));
            let values = b.slice_mut(p.slot).unwrap();
            (0..).zip(values).for_each(|(j, x)| *x = f64::from(random.normal(0, j)) * 0.3);
        }
        Answering { b, model, plan }
    }

    /// Logits after the last token of `text`, without a cache, in f64.
    fn plain(&mut self, text: &[u32]) -> Vec<f64> {
        let last = text.len() as u32 - 1;
        let forest = Forest {
            tokens: text.to_vec(),
            segments: vec![Segment { start: 0, len: last + 1, parent: None }],
            entries: vec![Entry { position: last, target: 0, weight: 1.0 }],
        };
        let batch = Batch::from_forest(&forest, self.model.config.vocab_size).unwrap();
        self.plan.capacity.admit(&batch).unwrap();
        self.b.set_batch(&batch).unwrap();
        let pass = Pass::new(&self.model, &self.plan, &batch);
        pass.forward(&mut self.b).unwrap();
        let logits = pass.logits(&mut self.b).unwrap();
        self.b.slice_mut(logits).unwrap().to_vec()
    }

    /// Extends and returns the logits in f32, and in f64 those of the last pass.
    fn extend(
        &mut self,
        cache: &mut Cache,
        new: &[(NodeId, &[u32])],
    ) -> (Vec<Vec<f32>>, Vec<Vec<f64>>) {
        let rounded = extend(&mut self.b, &self.model, &self.plan, cache, new).unwrap();
        let vocab = self.model.config.vocab_size as usize;
        let exact = self.plan.head.logits.first((new.len() * vocab) as u64);
        let exact = self.b.slice_mut(exact).unwrap();
        (rounded, exact.chunks(vocab).map(<[f64]>::to_vec).collect())
    }
}

/// What happens to the tree of sequences.
#[derive(Clone, Debug)]
enum Act {
    /// A new sequence continues an existing one (or nothing) with room for this many tokens.
    Branch(prop::sample::Index, bool, u64),
    /// Several sequences grow at once by these tokens.
    Grow(Vec<(prop::sample::Index, Vec<u32>)>),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let index = any::<prop::sample::Index>;
    let branch =
        (index(), any::<bool>(), 1u64..20).prop_map(|(i, root, n)| Act::Branch(i, root, n));
    let grow = vec((index(), vec(0u32..11, 1..=6)), 1..=3).prop_map(Act::Grow);
    vec(prop_oneof![1 => branch, 2 => grow], 4..=14)
}

fn play(config: &Config, method: Method, acts: &[Act]) -> usize {
    let checkpoint = Checkpoint::new(config, 5);
    let mut cached = Answering::new(&checkpoint, config, method, ROOM);
    let mut plain = Answering::new(
        &checkpoint,
        config,
        method,
        Capacity { tokens: 64, cache_rows: 0, logit_rows: 1, ..ROOM },
    );
    let mut cache = Cache::new(ROOM.cache_rows);
    // Each sequence: its node, whole text, tokens that still fit.
    let mut nodes: Vec<(NodeId, Vec<u32>, usize)> = vec![];
    let root = cache.add(None, 16).unwrap();
    cached.extend(&mut cache, &[(root, &[1, 2, 3])]);
    nodes.push((root, vec![1, 2, 3], 13));
    let mut compared = 0;
    for act in acts {
        match act {
            Act::Branch(from, is_root, room) => {
                let (parent, text, _) = from.get(&nodes).clone();
                let (parent, text) = if *is_root { (None, vec![]) } else { (Some(parent), text) };
                if let Ok(node) = cache.add(parent, *room) {
                    nodes.push((node, text, *room as usize));
                }
            }
            Act::Grow(list) => {
                let mut new: Vec<(usize, &[u32])> = vec![];
                for (which, tokens) in list {
                    let which = which.index(nodes.len());
                    let (_, text, free) = &nodes[which];
                    let fits = tokens.len() <= *free && text.len() + tokens.len() <= 40;
                    if fits && new.iter().all(|(other, _)| *other != which) {
                        new.push((which, tokens));
                    }
                }
                if new.is_empty() {
                    continue;
                }
                let pieces: Vec<_> = new.iter().map(|&(i, t)| (nodes[i].0, t)).collect();
                let rows: usize = new.iter().map(|(_, t)| t.len()).sum();
                let (rounded, exact) = cached.extend(&mut cache, &pieces);
                for (j, &(i, tokens)) in new.iter().enumerate() {
                    nodes[i].1.extend_from_slice(tokens);
                    nodes[i].2 -= tokens.len();
                    let expected = plain.plain(&nodes[i].1);
                    if rows as u64 <= ROOM.tokens {
                        let wrong = error(&exact[j], &expected, 1e-3);
                        assert!(wrong < 1e-10, "sequence {i}: {wrong:.1e} off");
                    }
                    let widened: Vec<f64> = rounded[j].iter().map(|&x| f64::from(x)).collect();
                    assert!(error(&widened, &expected, 1e-3) < 1e-6, "sequence {i}");
                    compared += 1;
                }
            }
        }
    }
    compared
}

proptest! {
    #![proptest_config(common::cases(200))]

    #[test]
    fn any_tree_of_sequences(acts in acts(), heads in 0usize..3, layers in 1u32..=3, tuned: bool) {
        let (n_heads, n_kv_heads) = [(4, 2), (3, 1), (2, 2)][heads];
        let config = Config { n_heads, n_kv_heads, n_layers: layers, ..config() };
        play(&config, if tuned { lora(0.0) } else { Method::Frozen }, &acts);
    }
}

/// A prompt longer than a batch goes through in pieces.
#[test]
fn long_prompts_go_through_in_pieces() {
    let config = config();
    let checkpoint = Checkpoint::new(&config, 5);
    let text: Vec<u32> = (0..41).map(|i| (i * 7 + i / 3) % 11).collect();
    let mut plain = Answering::new(
        &checkpoint,
        &config,
        Method::Frozen,
        Capacity { tokens: 64, cache_rows: 0, logit_rows: 1, ..ROOM },
    );
    let expected = plain.plain(&text);
    for tokens in [1, 5, 12, 41] {
        let room = Capacity { tokens, kept: tokens.min(3), logit_rows: 1, ..ROOM };
        let mut cached = Answering::new(&checkpoint, &config, Method::Frozen, room);
        let mut cache = Cache::new(ROOM.cache_rows);
        let node = cache.add(None, 41).unwrap();
        let (_, exact) = cached.extend(&mut cache, &[(node, &text)]);
        let wrong = error(&exact[0], &expected, 1e-3);
        assert!(wrong < 1e-10, "{tokens} tokens at once: {wrong:.1e} off");
    }
}

/// What does not fit, or makes no sense, is refused; what was cached stays usable.
#[test]
fn refusals() {
    let config = config();
    let checkpoint = Checkpoint::new(&config, 5);
    let mut a = Answering::new(&checkpoint, &config, Method::Frozen, ROOM);
    let mut cache = Cache::new(20);
    let node = cache.add(None, 10).unwrap();
    let other = cache.add(None, 4).unwrap();
    assert!(matches!(cache.add(None, 7), Err(Error::Capacity { reserved: 6, .. })));
    a.extend(&mut cache, &[(node, &[1, 2, 3])]);
    let mut refused = |new: &[(NodeId, &[u32])]| {
        let before = new.iter().map(|(n, _)| cache.next(*n).unwrap()).collect::<Vec<_>>();
        let error = extend(&mut a.b, &a.model, &a.plan, &mut cache, new).unwrap_err();
        let after = new.iter().map(|(n, _)| cache.next(*n).unwrap()).collect::<Vec<_>>();
        assert_eq!(before, after, "{error}");
    };
    refused(&[(node, &[1; 8])]);
    refused(&[(node, &[11])]);
    refused(&[(node, &[])]);
    refused(&[(other, &[1]), (node, &[1; 8])]);
    // Both pieces would be written to the same rows of the cache.
    refused(&[(node, &[1]), (node, &[2])]);
    let (_, exact) = a.extend(&mut cache, &[(node, &[4])]);
    let wrong = error(&exact[0], &a.plain(&[1, 2, 3, 4]), 1e-3);
    assert!(wrong < 1e-10, "{wrong:.1e} off");
}
