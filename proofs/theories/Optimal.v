(* The keep probabilities of least variance, and the `lambda` that spends a budget.

   - `least_variance`: q = min(1, lambda y) minimises sum y^2 (1 - q) / q among all probabilities with no larger sum.
   - `water_level_spends`: the search of `water_level` ends, with a lambda above 0 and sum min(1, lambda W) = c.
   - `water_level_all`: it gives no lambda exactly when there are no more than c positive weights.
   - `paper_count`: the rule of the paper keeps at most c (1 - w_sink) in the mean.
   - `calibrated_no_worse`: at the same c, the calibrated rule never has more variance than the paper's. *)

From mathcomp Require Import all_ssreflect ssralg ssrnum.
From SusOracle Require Import Linear Programs Exact.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.Theory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section Optimal.

Variable R : realFieldType.
Notation A := (exact R).
Notation keep := (keep_probability A).

Lemma keep0 (l : R) : keep l 0 = 0.
Proof. by rewrite /keep_probability /= lexx. Qed.

Lemma keep_min (l w : R) : 0 < w -> keep l w = Num.min 1 (l * w).
Proof.
move=> w_gt0; rewrite /keep_probability /= leNgt w_gt0 /= minC /Num.min; by case: ifP.
Qed.

Lemma keep_saturated (l w : R) : 0 < w -> 1 <= l * w -> keep l w = 1.
Proof. by move=> w_gt0 sat; rewrite /keep_probability /= (lt_geF w_gt0) ltNge sat. Qed.

Lemma keep_linear (l w : R) : 0 <= w -> l * w <= 1 -> keep l w = l * w.
Proof.
rewrite le0r => /orP[/eqP -> | w_gt0] small; first by rewrite keep0 mulr0.
rewrite /keep_probability /= (lt_geF w_gt0); case: ltP => // sat.
by apply/eqP; rewrite eq_le sat small.
Qed.

(* The variance of W~ for one entry, W^2 (1 - q) / q. *)
Definition variance (y q : R) : R := y ^+ 2 * (1 - q) / q.

(* For one entry: the variance plus a price of 1 / lambda^2 for each unit of probability is least at min(1, lambda y). *)
Lemma least_priced (l y p : R) : 0 < l -> 0 <= y -> 0 <= p <= 1 -> (p = 0 -> y = 0) ->
  variance y (keep l y) + keep l y / l ^+ 2 <= variance y p + p / l ^+ 2.
Proof.
move=> l_gt0 y_ge0 /andP[p_ge0 p_le1] zero; have l_neq0 : l != 0 by rewrite gt_eqF.
case: (eqVneq p 0) => [p0 | p_neq0].
  by rewrite (zero p0) keep0 p0 lexx.
have p_gt0 : 0 < p by rewrite lt_def p_neq0.
case: (eqVneq y 0) => [-> | y_neq0].
  by rewrite keep0 /variance expr0n /= !mul0r !add0r divr_ge0 // exprn_ge0 // ltW.
have y_gt0 : 0 < y by rewrite lt_def y_neq0.
rewrite -subr_ge0 /variance; case: (ltP (l * y) 1) => [small | saturated].
  rewrite keep_linear ?(ltW small) //.
  have -> : y ^+ 2 * (1 - p) / p + p / l ^+ 2 - (y ^+ 2 * (1 - l * y) / (l * y) + l * y / l ^+ 2)
      = (l * y - p) ^+ 2 / (p * l ^+ 2).
    by field; rewrite p_neq0 l_neq0 y_neq0.
  by rewrite divr_ge0 ?sqr_ge0 // mulr_ge0 // sqr_ge0.
rewrite keep_saturated // subrr mulr0 mul0r add0r.
have -> : y ^+ 2 * (1 - p) / p + p / l ^+ 2 - 1 / l ^+ 2 = (1 - p) * ((l * y) ^+ 2 - p) / (p * l ^+ 2).
  by field; rewrite p_neq0 l_neq0.
have l_ge0 := ltW l_gt0.
rewrite divr_ge0 ?mulr_ge0 ?subr_ge0 ?sqr_ge0 //.
by apply: le_trans p_le1 _; rewrite expr_ge1 // mulr_ge0.
Qed.

Theorem least_variance (I : Type) (entries : seq I) (y p : I -> R) (l : R) :
  0 < l -> (forall i, 0 <= y i) -> (forall i, 0 <= p i <= 1) -> (forall i, p i = 0 -> y i = 0) ->
  \sum_(i <- entries) p i <= \sum_(i <- entries) keep l (y i) ->
  \sum_(i <- entries) variance (y i) (keep l (y i)) <= \sum_(i <- entries) variance (y i) (p i).
Proof.
move=> l_gt0 y_ge0 p_range zero budget.
have priced : \sum_(i <- entries) (variance (y i) (keep l (y i)) + keep l (y i) / l ^+ 2)
    <= \sum_(i <- entries) (variance (y i) (p i) + p i / l ^+ 2).
  by apply: ler_sum => i _; apply: least_priced => //; apply: zero.
move: priced; rewrite !big_split /= -!mulr_suml => priced.
have price : 0 <= (l ^+ 2)^-1 by rewrite invr_ge0 exprn_ge0 // ltW.
rewrite -(ler_add2r ((\sum_(i <- entries) keep l (y i)) / l ^+ 2)).
apply: le_trans priced _; rewrite ler_add2l.
exact: ler_wpmul2r price _ _ budget.
Qed.

(* The search of `water_level`. *)

Lemma head_rests (d : seq R) : head 0 (rests A d) = \sum_(w <- d) w.
Proof.
elim: d => [|w d IH]; first by rewrite big_nil.
by rewrite big_cons /= -[head _ _]/(head 0 _) IH addrC.
Qed.

Lemma find_level_spec (d : seq R) (left : R) :
  sorted >=%O d -> all (fun w => 0 < w) d -> 0 < left -> left < (size d)%:R ->
  exists l rest : R,
    [/\ find_level A left (zip d (rests A d)) = Some (l, rest), 0 < l,
        \sum_(w <- d) keep l w = left &
        forall w, (forall x, x \in d -> x <= w) -> \sum_(x <- d) x < left * w -> 1 <= l * w].
Proof.
elim: d left => [|w d IH] left.
  by move=> _ _ left_gt0; rewrite ltNge ltW.
move=> /= d_sorted /andP[w_gt0 d_pos] left_gt0 left_lt.
have largest x : x \in d -> x <= w.
  by move: d_sorted; rewrite (path_sortedE ge_trans) => /andP[/allP below _] /below.
have d_ge0 x : x \in d -> 0 <= x by move/(allP d_pos)/ltW.
rewrite -[head _ _]/(head 0 _) head_rests.
have rest_eq : \sum_(x <- d) x + w = \sum_(x <- w :: d) x by rewrite big_cons addrC.
have sum_ge0 : 0 <= \sum_(x <- d) x by rewrite big_seq; apply: sumr_ge0.
rewrite rest_eq; case: ifP => [enough | short].
  have rest_gt0 : 0 < \sum_(x <- w :: d) x by rewrite -rest_eq ltr_paddl.
  exists (left / \sum_(x <- w :: d) x), (\sum_(x <- w :: d) x); split=> //.
  - by rewrite divr_gt0.
  - have unsaturated x : x \in w :: d -> keep (left / \sum_(x <- w :: d) x) x = left / (\sum_(x <- w :: d) x) * x.
      move=> x_in; have [x_ge0 x_le] : 0 <= x /\ x <= w.
        by move: x_in; rewrite inE => /predU1P[-> | x_in]; [rewrite ltW | rewrite d_ge0 ?largest].
      rewrite keep_linear // mulrAC ler_pdivr_mulr // mul1r; apply: le_trans enough.
      by rewrite ler_pmul2l.
    rewrite big_seq (eq_bigr _ unsaturated) -big_seq -mulr_sumr divfK ?gt_eqF //.
  - by move=> x _ above; rewrite mulrAC ler_pdivl_mulr // mul1r ltW.
have {}short : \sum_(x <- d) x + w < left * w by rewrite ltNge rest_eq short.
have left_gt1 : 0 < left - 1.
  rewrite subr_gt0 -(ltr_pmul2r w_gt0) mul1r; apply: le_lt_trans short; by rewrite ler_addr.
have short' : \sum_(x <- d) x < (left - 1) * w by lin short.
have left_lt' : left - 1 < (size d)%:R by rewrite -natr1 in left_lt; lin left_lt.
have [l [rest [found l_gt0 spent saturates]]] := IH _ (path_sorted d_sorted) d_pos left_gt1 left_lt'.
exists l, rest; split=> //.
  have saturated : 1 <= l * w by apply: saturates short' => x; apply: largest.
  by rewrite big_cons spent keep_saturated // [1 + _]addrC subrK.
move=> x above _; have w_le : w <= x by apply: above; rewrite inE eqxx.
by apply: saturates => [y y_in|]; [apply: le_trans (largest y y_in) w_le | apply: lt_le_trans short' _; rewrite ler_pmul2l].
Qed.

Definition positive (weights : seq R) := filter (fun w => 0 < w) weights.

Lemma expected_count_exact l (weights : seq R) :
  expected_count A l weights = \sum_(w <- weights) keep l w.
Proof.
rewrite /expected_count -[RHS]add0r /= -[LHS]/(foldl (fun s w => s + keep l w) 0 _).
move: {1 2}(0 : R) => s; elim: weights s => [|w ws IH] s /=; first by rewrite big_nil addr0.
by rewrite IH big_cons addrA.
Qed.

Lemma keep_positive l (weights : seq R) :
  \sum_(w <- weights) keep l w = \sum_(w <- positive weights) keep l w.
Proof.
rewrite /positive big_filter [RHS]big_mkcond; apply: eq_bigr => w _; case: ltP => // w_le0.
by rewrite /keep_probability /= w_le0.
Qed.

Theorem water_level_spends (c : R) (weights : seq R) :
  0 < c -> c < (size (positive weights))%:R ->
  exists l rest : R,
    [/\ water_level A c weights = Some (l, rest), 0 < l & expected_count A l weights = c].
Proof.
move=> c_gt0 c_lt; rewrite /water_level count_as_number_exact -[fun _ => true]/(pred_of_simpl predT) count_predT /= -/(positive weights) leNgt c_lt /=.
set d := sort _ _.
have d_sorted : sorted >=%O d by apply: sort_sorted => a b; apply: ge_total.
have d_pos : all (fun w => 0 < w) d by rewrite all_sort filter_all.
have size_d : size d = size (positive weights) by rewrite size_sort.
have [|l [rest [found l_gt0 spent _]]] := find_level_spec d_sorted d_pos c_gt0; first by rewrite size_d.
exists l, rest; split=> //.
rewrite expected_count_exact keep_positive -spent; apply: perm_big.
by rewrite perm_sym perm_sort.
Qed.

Theorem water_level_all (c : R) (weights : seq R) :
  (size (positive weights))%:R <= c -> water_level A c weights = None.
Proof. by move=> enough; rewrite /water_level count_as_number_exact -[fun _ => true]/(pred_of_simpl predT) count_predT /= enough. Qed.

(* E nnz: its mean is the sum of q (`nnz_mean` in Variance.v), which the rule of the paper keeps at c times the sum
   of the weights: 1, or 1 - w_sink with a sink. *)
Theorem paper_count (c : R) (weights : seq R) :
  0 < c -> all (fun w => 0 <= w) weights -> expected_count A c weights <= c * \sum_(w <- weights) w.
Proof.
move=> c_gt0 /allP W_ge0; rewrite expected_count_exact mulr_sumr.
rewrite big_seq [X in _ <= X]big_seq; apply: ler_sum => w /W_ge0 w_ge0.
case: (ltP (c * w) 1) => [/ltW small | saturated]; first by rewrite keep_linear.
rewrite keep_saturated // lt_def w_ge0 andbT; apply: contraTneq saturated => ->.
by rewrite mulr0 ler10.
Qed.

Corollary paper_count_le (c : R) (weights : seq R) :
  0 < c -> all (fun w => 0 <= w) weights -> \sum_(w <- weights) w <= 1 -> expected_count A c weights <= c.
Proof.
move=> c_gt0 W_ge0 total; apply: le_trans (paper_count c_gt0 W_ge0) _.
by rewrite -[X in _ <= X]mulr1 ler_pmul2l.
Qed.

Theorem calibrated_no_worse (c l rest : R) (weights : seq R) :
  0 < c -> c < (size (positive weights))%:R -> all (fun w => 0 <= w) weights -> \sum_(w <- weights) w <= 1 ->
  water_level A c weights = Some (l, rest) ->
  \sum_(w <- weights) variance w (keep l w) <= \sum_(w <- weights) variance w (keep c w).
Proof.
move=> c_gt0 c_lt W_ge0 total level.
have [l' [rest' [level' l_gt0 spent]]] := water_level_spends c_gt0 c_lt.
move: level'; rewrite level => -[l_eq _]; rewrite -{l'}l_eq in l_gt0 spent.
(* Weights are not negative, so taking |w| changes nothing, and makes the hypotheses hold everywhere. *)
have same (f : R -> R) : \sum_(w <- weights) f w = \sum_(w <- weights) f `|w|.
  by rewrite big_seq [RHS]big_seq; apply: eq_bigr => w /(allP W_ge0) w_ge0; rewrite ger0_norm.
rewrite (same (fun w => variance w (keep l w))) (same (fun w => variance w (keep c w))).
apply: (least_variance (y := fun w => `|w|) (p := fun w => keep c `|w|)) => //.
- move=> w; rewrite /keep_probability /=; case: (leP `|w| 0) => [_ | w_gt0]; first by rewrite lexx ler01.
  by case: ifP => [/ltW -> | _]; rewrite ?ler01 ?lexx // mulr_ge0 ?normr_ge0 // ltW.
- move=> w; case: (ltP (c * `|w|) 1) => [/ltW small | saturated].
    by rewrite keep_linear // => /eqP; rewrite mulf_eq0 gt_eqF // => /eqP.
  rewrite keep_saturated //; first by move/eqP; rewrite oner_eq0.
  by rewrite lt_def normr_ge0 andbT; apply: contraTneq saturated => ->; rewrite mulr0 ler10.
by rewrite -(same (keep c)) -(same (keep l)) -!expected_count_exact spent paper_count_le.
Qed.

End Optimal.
