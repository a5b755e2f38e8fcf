// nll (E) = lse (M) - logit[target]; the matrix product has left a chunk of logits (rows,V). One
// workgroup a row.

struct P {
    first_group: u32,
    logits_at: u32,
    nll_at: u32,
    lse_at: u32,
    best_at: u32,
    coeff_at: u32,
    vocab: u32,
    // The chunk's first kept row, and its rows.
    first: u32,
    rows: u32,
    // 1: the number of the largest logit is wanted.
    wants_best: u32,
    // Where the batch's tables begin.
    entries: u32,
    targets: u32,
}

const GROUP: u32 = 256u;

var<workgroup> places: array<u32, GROUP>;

// The place of the largest of every thread's x, the first of equals; `reduced` holds the values.
fn first_best(x: f32, place: u32, t: u32) -> u32 {
    reduced[t] = x;
    places[t] = place;
    workgroupBarrier();
    for (var half = GROUP / 2u; half > 0u; half = half / 2u) {
        if (t < half) {
            let other = reduced[t + half];
            let equal_before = other == reduced[t] && places[t + half] < places[t];
            if (other > reduced[t] || equal_before) {
                reduced[t] = other;
                places[t] = places[t + half];
            }
        }
        workgroupBarrier();
    }
    let winner = places[0];
    workgroupBarrier();
    return winner;
}

@compute @workgroup_size(256)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) t: u32) {
    let row = group_index(wid, groups);
    if (row >= p.rows) {
        return;
    }
    let own = p.logits_at + row * p.vocab;
    let kept = p.first + row;
    var most = LOWEST;
    var place = 0u;
    for (var o = t; o < p.vocab; o = o + GROUP) {
        let x = logits[own + o];
        if (x > most) {
            most = x;
            place = o;
        }
    }
    let winner = first_best(most, place, t);
    let largest = logits[own + winner];
    var sum = 0.0;
    for (var o = t; o < p.vocab; o = o + GROUP) {
        sum = sum + exp_(logits[own + o] - largest);
    }
    let log_sum = largest + ln_(sum_all(sum, t));
    if (t == 0u) {
        lse[p.lse_at + kept] = log_sum;
        if (p.wants_best == 1u) {
            best[p.best_at + kept] = f32(winner);
        }
    }
    let end = batch[p.entries + kept + 1u];
    for (var e = batch[p.entries + kept] + t; e < end; e = e + GROUP) {
        nll[p.nll_at + e] = log_sum - logits[own + batch[p.targets + e]];
    }
}

// logits = Σ_e coeff_e · (softmax - onehot(target_e)), in place
@compute @workgroup_size(256)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) t: u32) {
    let row = group_index(wid, groups);
    if (row >= p.rows) {
        return;
    }
    let own = p.logits_at + row * p.vocab;
    let kept = p.first + row;
    let start = batch[p.entries + kept];
    let end = batch[p.entries + kept + 1u];
    var total = 0.0;
    for (var e = start; e < end; e = e + 1u) {
        total = total + coeff[p.coeff_at + e];
    }
    let log_sum = lse[p.lse_at + kept];
    for (var o = t; o < p.vocab; o = o + GROUP) {
        logits[own + o] = total * exp_(logits[own + o] - log_sum);
    }
    storageBarrier();
    if (t == 0u) {
        for (var e = start; e < end; e = e + 1u) {
            let place = own + batch[p.targets + e];
            logits[place] = logits[place] - coeff[p.coeff_at + e];
        }
    }
}
