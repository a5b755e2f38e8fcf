//! Loads, stores, state spaces and atomics.

mod common;
use common::{Arg, Gpu, kernel, lanes, one_cta};
use paddock_ptx_emulator::Shape;

#[test]
fn vectors_and_narrow_values() {
    let mut gpu = Gpu::new();
    let (input, output) = (gpu.u32s(&[0x8081_8283, 2, 3, 4]), gpu.room(64));
    let body = "
        ld.global.nc.L1::no_allocate.v4.u32 {%a, %b, %c, %d}, [%in];
        st.global.cs.v4.b32 [%out], {%d, %c, %b, %a};
        ld.global.s8 %r, [%in+3]; st.global.u32 [%out+16], %r;
        ld.global.u8 %r, [%in+3]; st.global.u32 [%out+20], %r;
        ld.global.v2.u16 {%h0, %h1}, [%in]; st.global.v2.u16 [%out+24], {%h1, %h0};
        ld.global.s16 %r, [%in+2]; st.global.u32 [%out+28], %r;
        ld.global.v2.b64 {%w0, %w1}, [%in]; st.global.b64 [%out+32], %w1;
        st.global.v2.f32 [%out+40], {0f3F800000, 0f40000000};";
    gpu.launch(&kernel(body), "k", one_cta(1), &[Arg::U64(output), Arg::U64(input)]);
    let found = gpu.read_u32(output, 12);
    assert_eq!(
        found,
        [
            4,
            3,
            2,
            0x8081_8283,
            0xFFFF_FF80,
            0x80,
            0x8283_8081,
            0xFFFF_8081,
            3,
            4,
            0x3F80_0000,
            0x4000_0000
        ]
    );
}

#[test]
fn constants_locals_and_device_variables() {
    let source = "
        .version 7.0
        .target sm_80
        .address_size 64
        .const .align 8 .f32 table[4] = {1.0, 0f40000000, 3.0};
        .global .align 4 .u32 counter;
        .global .u32 start = 41;
        .entry k(.param .u32 p_pad, .param .align 8 .b8 p_struct[16], .param .u64 p_out)
        {
            .reg .b64 %out, %v;
            .reg .b32 %a, %b;
            .local .align 8 .b8 slot[16];
            ld.param.u64 %out, [p_out];
            ld.const.u32 %a, [table+4];
            st.global.u32 [%out], %a;
            st.local.u32 [slot+8], %a;
            ld.local.u32 %b, [slot+8];
            st.global.u32 [%out+4], %b;
            ld.global.u32 %a, [start];
            add.u32 %a, %a, 1;
            st.global.u32 [counter], %a;
            ld.global.u32 %b, [counter];
            st.global.u32 [%out+8], %b;
            ld.param.u32 %a, [p_struct+12];
            st.global.u32 [%out+12], %a;
        }";
    let mut gpu = Gpu::new();
    let module = gpu.machine.load(source).unwrap();
    let kernel = module.kernel("k").unwrap();
    let parameters: Vec<u32> = kernel.code().parameters.iter().map(|one| one.offset).collect();
    assert_eq!(parameters, [0, 8, 24], "parameters are aligned");
    let output = gpu.room(16);
    let mut block = vec![0; 32];
    block[20..24].copy_from_slice(&77_u32.to_le_bytes());
    block[24..].copy_from_slice(&output.to_le_bytes());
    gpu.machine.launch(&kernel, one_cta(1), &block).unwrap();
    assert_eq!(gpu.read_u32(output, 4), [0x4000_0000, 0x4000_0000, 42, 77]);
    let (counter, size) = module.global("counter").unwrap();
    assert_eq!((gpu.read_u32(counter, 1)[0], size), (42, 4));
}

#[test]
fn shared_memory_by_name_register_and_generic_address() {
    let body = "
        .shared .align 16 .b8 tile[256];
        .reg .b32 %base, %here;
        mov.u32 %base, tile;
        mad.lo.u32 %here, %lane, 4, %base;
        st.shared.u32 [%here], %lane;
        bar.sync 0;
        xor.b32 %t0, %lane, 31;
        mad.lo.u32 %here, %t0, 4, %base;
        ld.shared.u32 %r, [%here];
        cvt.u64.u32 %w0, %here;
        cvta.shared.u64 %w1, %w0;
        ld.u32 %t1, [%w1];
        cvta.to.shared.u64 %w2, %w1;
        ld.shared.u32 %t2, [%w2];
        add.u32 %r, %r, %t1; add.u32 %r, %r, %t2;
        cvta.to.global.u64 %w3, %out;
        mad.wide.u32 %w3, %lane, 4, %w3;
        st.u32 [%w3], %r;";
    let mut gpu = Gpu::new();
    let (input, output) = (gpu.u32s(&[0]), gpu.room(128));
    gpu.launch(&kernel(body), "k", one_cta(32), &[Arg::U64(output), Arg::U64(input)]);
    let expected: Vec<u32> = (0..32).map(|lane| 3 * (31 - lane)).collect();
    assert_eq!(gpu.read_u32(output, 32), expected);
}

#[test]
fn dynamic_shared_memory_begins_after_the_static_one() {
    let source = "
        .version 7.0
        .target sm_80
        .address_size 64
        .extern .shared .align 128 .b8 more[];
        .visible .entry k(.param .u64 p_out)
        {
            .reg .b64 %out; .reg .b32 %a;
            .shared .b32 few[3];
            ld.param.u64 %out, [p_out];
            mov.u32 %a, more;
            st.shared.u32 [%a+1020], %a;
            ld.shared.u32 %a, [more+1020];
            st.global.u32 [%out], %a;
            mov.u32 %a, %dynamic_smem_size;
            st.global.u32 [%out+4], %a;
        }";
    let mut gpu = Gpu::new();
    let output = gpu.room(8);
    gpu.launch(source, "k", Shape { shared: 1024, ..one_cta(1) }, &[Arg::U64(output)]);
    assert_eq!(gpu.read_u32(output, 2), [128, 1024]);
}

#[test]
fn atomics_in_device_memory() {
    let body = "
        atom.global.add.u32 %r, [%in], 1;
        red.global.add.f32 [%in+4], 0f3F000000;
        atom.global.max.s32 %t0, [%in+8], %lane;
        atom.global.cas.b32 %t1, [%in+12], %lane, 100;
        atom.global.inc.u32 %t2, [%in+16], 9;
        atom.global.exch.b32 %t3, [%in+20], %lane;
        red.global.gpu.relaxed.or.b32 [%in+24], 4;
        atom.global.add.u64 %w0, [%in+32], 2;
        mad.wide.u32 %w1, %lane, 4, %out;
        st.global.u32 [%w1], %r;";
    let mut gpu = Gpu::new();
    let (input, output) = (gpu.u32s(&[5, 0, -3_i32 as u32, 31, 0, 0, 1, 0, !0, 0]), gpu.room(128));
    gpu.launch(&kernel(body), "k", one_cta(32), &[Arg::U64(output), Arg::U64(input)]);
    let order: Vec<u32> = (5..37).collect();
    assert_eq!(gpu.read_u32(output, 32), order, "lanes take turns in ascending order");
    assert_eq!(gpu.read_u32(input, 10), [37, 16.0_f32.to_bits(), 31, 100, 2, 31, 5, 0, 63, 1]);
}

#[test]
fn atomics_in_shared_memory_do_not_race_with_each_other() {
    let body = "
        .shared .b32 sum;
        setp.eq.u32 %p, %lane, 0;
        @%p st.shared.u32 [sum], 0;
        bar.sync 0;
        atom.shared.add.u32 %a, [sum], %lane;
        bar.sync 0;
        ld.shared.u32 %r, [sum];
        mad.wide.u32 %w1, %lane, 4, %out;
        st.global.u32 [%w1], %r;";
    let mut gpu = Gpu::new();
    let (input, output) = (gpu.u32s(&[0]), gpu.room(256));
    gpu.launch(&kernel(body), "k", one_cta(64), &[Arg::U64(output), Arg::U64(input)]);
    assert_eq!(gpu.read_u32(output, 64), [63 * 32; 64]);
}

#[test]
fn counters_tell_bytes_and_sectors() {
    let mut gpu = Gpu::new();
    let (input, output) = (gpu.u32s(&vec![1; 1024]), gpu.room(4096));
    let body = |stride: u32| {
        format!(
            "mad.wide.u32 %w0, %lane, {stride}, %in; ld.global.u32 %a, [%w0];
             mad.wide.u32 %w1, %lane, 4, %out; st.global.u32 [%w1], %a;"
        )
    };
    let args = [Arg::U64(output), Arg::U64(input)];
    let together = gpu.launch(&kernel(&body(4)), "k", one_cta(32), &args).counters;
    assert_eq!((together.global_read, together.sectors_read), (128, 4));
    assert_eq!((together.global_written, together.sectors_written), (128, 4));
    let apart = gpu.launch(&kernel(&body(32)), "k", one_cta(32), &args).counters;
    assert_eq!((apart.global_read, apart.sectors_read), (128, 32));
    assert_eq!(together.total(), 8, "three to set up, four of the body, ret");
    assert_eq!(together.ctas, 1);
}

#[test]
fn a_guard_keeps_lanes_out() {
    let found = lanes(
        "mov.u32 %r, 7; setp.lt.u32 %p, %a, 3; @!%p mov.u32 %r, 9;",
        &[[1, 0, 0, 0], [5, 0, 0, 0]],
    );
    assert_eq!(found, [7, 9]);
}
