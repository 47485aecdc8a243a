//! The constants of the elementary functions, written by `tests/data/make_dd_mpmath.py --table`.

use super::Dd;

const fn bits(hi: u64, lo: u64) -> Dd {
    Dd { hi: f64::from_bits(hi), lo: f64::from_bits(lo) }
}

/// `ln(2) / 64` in three parts, largest first, with an error below `2^-134`.
///
/// The first two have 36 bits, so their products with an integer below `2^17` are exact.
pub(super) const LN_2_BY_64: [f64; 3] = [
    f64::from_bits(0x3f86_2e42_fefa_0000),
    f64::from_bits(0x3d1c_f79a_bc9e_0000),
    f64::from_bits(0x3aad_9cc0_1f97_b57a),
];

/// `1 / k!` for `k` from 3 to 6, to half a unit in the last place of the low part.
pub(super) const INVERSE_FACTORIALS: [Dd; 4] = [
    bits(0x3fc5_5555_5555_5555, 0x3c65_5555_5555_5555),
    bits(0x3fa5_5555_5555_5555, 0x3c45_5555_5555_5555),
    bits(0x3f81_1111_1111_1111, 0x3c01_1111_1111_1111),
    bits(0x3f56_c16c_16c1_6c17, 0xbbef_49f4_9f49_f49f),
];

/// `1 / k!` for `k` from 7 to 11, rounded to `f64`.
pub(super) const INVERSE_FACTORIALS_F64: [f64; 5] = [
    f64::from_bits(0x3f2a_01a0_1a01_a01a),
    f64::from_bits(0x3efa_01a0_1a01_a01a),
    f64::from_bits(0x3ec7_1de3_a556_c734),
    f64::from_bits(0x3e92_7e4f_b778_9f5c),
    f64::from_bits(0x3e5a_e645_67f5_44e4),
];

/// `2^(j / 64) - 1` for `j` from -32 to 31, to half a unit in the last place of the low part.
pub(super) const EXP2_M1: [Dd; 64] = [
    bits(0xbfd2_bec3_3301_8867, 0x3c60_8b2f_b136_6ea9),
    bits(0xbfd2_409b_8735_cba2, 0xbc5b_be3a_683c_88ab),
    bits(0xbfd1_c114_2e27_4118, 0xbc71_6e47_8688_7a99),
    bits(0xbfd1_4029_537b_306f, 0x3c7f_b74d_519d_2459),
    bits(0xbfd0_bdd7_1829_fcf2, 0xbc74_1577_ee04_992f),
    bits(0xbfd0_3a19_9261_633c, 0x3c60_5d02_ba15_797e),
    bits(0xbfcf_69d9_9acc_c7b6, 0x3c55_9f11_5f56_6940),
    bits(0xbfce_5c99_92ed_b44e, 0x3c1c_83b2_1584_a2e1),
    bits(0xbfcd_4c6a_f755_7c93, 0x3c6b_a7c5_5a19_2c9c),
    bits(0xbfcc_3945_9baa_2327, 0xbc64_67d8_ba38_d128),
    bits(0xbfcb_2321_3cc8_e86c, 0xbc57_5fc7_81b5_7ebc),
    bits(0xbfca_09f5_8086_c6c2, 0x3c57_3d24_1f23_d17b),
    bits(0xbfc8_edb9_f570_3dc0, 0x3c6c_7c46_b071_f2be),
    bits(0xbfc7_ce66_1288_6a6d, 0xbc5a_ca4a_e8e6_a997),
    bits(0xbfc6_abf1_3707_6a8e, 0x3c56_8489_2395_f0f8),
    bits(0xbfc5_8652_aa18_0903, 0x3c3f_5921_deff_a626),
    bits(0xbfc4_5d81_9a94_b14b, 0x3c6e_8734_d177_3206),
    bits(0xbfc3_3175_1ec3_a814, 0xbc52_805e_3084_d708),
    bits(0xbfc2_0224_3412_86e4, 0xbc65_584f_7e54_ac3b),
    bits(0xbfc0_cf85_bed0_f8b7, 0xbc6b_845f_0ba4_c2f7),
    bits(0xbfbf_3321_13d5_6b1f, 0x3c31_0658_9504_8dd3),
    bits(0xbfbc_c076_8d41_75a6, 0x3c54_426f_fa41_e566),
    bits(0xbfba_46f9_1883_7cb7, 0xbc55_f868_5c2d_6c49),
    bits(0xbfb7_c695_afc3_b424, 0x3c5a_1e45_e434_2b1c),
    bits(0xbfb5_3f39_1822_dbc7, 0x3c47_6816_bad9_b837),
    bits(0xbfb2_b0cf_e126_6bd4, 0xbc5e_e7fc_b492_566d),
    bits(0xbfb0_1b46_6423_250a, 0xbc4a_5cd4_f184_b5b9),
    bits(0xbfaa_fd11_874c_009e, 0x3c4c_f44c_054e_647a),
    bits(0xbfa5_b505_d5b6_f268, 0x3c46_3dce_863d_76cc),
    bits(0xbfa0_5e41_19ea_5d89, 0x3c4c_7f48_6a4b_6b08),
    bits(0xbf95_f134_9237_57f3, 0xbc16_0f69_13af_3a8a),
    bits(0xbf86_0f9f_985b_c9f4, 0xbc26_f581_8b4d_9c3e),
    bits(0x0000_0000_0000_0000, 0x0000_0000_0000_0000),
    bits(0x3f86_4d1f_3bc0_3077, 0x3c1b_df2b_293d_e8a7),
    bits(0x3f96_6c34_c561_5d0f, 0xbc31_83ab_7149_735c),
    bits(0x3fa0_e8a3_0eb3_7901, 0x3c28_6be4_bb28_4ff4),
    bits(0x3fa6_ab0d_9f31_21ec, 0x3c44_c5c9_5b8c_2155),
    bits(0x3fac_7d86_5a7a_3440, 0x3c40_3a17_27c5_7b53),
    bits(0x3fb1_301d_0125_b50a, 0x3c53_aefc_6bb6_4c63),
    bits(0x3fb4_29aa_ea92_ddfb, 0x3c4a_080c_a1d9_2c37),
    bits(0x3fb7_2b83_c7d5_17ae, 0xbc49_041b_9d78_a75b),
    bits(0x3fba_35be_b6fc_b754, 0xbc4a_4b38_4b69_71be),
    bits(0x3fbd_4873_168b_9aa8, 0xbc5f_e91f_f5d9_bc3e),
    bits(0x3fc0_31dc_4314_66b2, 0xbc51_c453_f5ab_db59),
    bits(0x3fc1_c3d3_73ab_11c3, 0x3c5b_07eb_6c70_572d),
    bits(0x3fc3_5a2b_2f13_e6e9, 0x3c55_e99c_ca07_4ec9),
    bits(0x3fc4_f4ef_a8fe_f709, 0x3c68_4ba2_beb4_4954),
    bits(0x3fc6_942d_3720_185a, 0x3be2_3aa6_da0e_a709),
    bits(0x3fc8_37f0_518d_b8a9, 0x3c6b_d1ab_48c6_0b91),
    bits(0x3fc9_e045_9320_b7fa, 0x3c69_390c_21b2_cd2d),
    bits(0x3fcb_8d39_b9d5_4e55, 0x3c5c_5154_0bd1_51e6),
    bits(0x3fcd_3ed9_a72c_ffb7, 0x3c64_3792_533c_143a),
    bits(0x3fce_f532_6091_a112, 0xbc64_97db_b83d_8512),
    bits(0x3fd0_5828_87dc_b8a8, 0xbc5e_f369_1c30_9278),
    bits(0x3fd1_3821_8186_24b4, 0x3c48_9b7a_04ef_80d0),
    bits(0x3fd2_1a8a_d704_f340, 0x3c73_c1a3_b690_62f0),
    bits(0x3fd2_ff6b_54d8_a89c, 0x3c7d_4397_afec_42e2),
    bits(0x3fd3_e6c9_da74_b29b, 0xbc72_cc27_4965_5f8c),
    bits(0x3fd4_d0ad_5a75_3e07, 0x3c7f_0a83_c49d_86a6),
    bits(0x3fd5_bd1c_dad4_9f6a, 0xbc79_134f_fb89_b14c),
    bits(0x3fd6_ac1f_7521_50a5, 0x3c78_c930_1519_1eb3),
    bits(0x3fd7_9dbc_56b4_8522, 0xbc71_641b_3dfc_668a),
    bits(0x3fd8_91fa_c0e9_5613, 0xbc6c_1e0b_f205_a4b8),
    bits(0x3fd9_88e2_0954_8892, 0x3c71_27d9_e29b_8f31),
];
