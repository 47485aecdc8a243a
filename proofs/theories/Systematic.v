(* Systematic sampling, as the loop of `systematic` computes it, the clip of the running sum included.

   - `systematic_keeps`: the loop keeps j iff q_j = 1 or an integer lies in (C_{j-1} - u, C_j - u], the definition.
   - `systematic_count`: the number of kept entries is strictly within 1 of the sum of q.
   - `systematic_cap`: it is never above ceil(most).
   - `systematic_cap_rounded`: nor is it when the additions of the running sum round, whatever they round to.
   - `systematic_grid`: j is kept in exactly q_j M of the M draws u = k/M if the running sums are multiples of 1/M;
     `systematic_near`: if they are not, the number of draws is strictly within 1 of q_j M. *)

From mathcomp Require Import all_ssreflect ssralg ssrnum ssrint.
From SusOracle Require Import Linear Programs Exact.

Set Implicit Arguments.
Unset Strict Implicit.
Unset Printing Implicit Defensive.

Import Order.Theory GRing.Theory Num.Theory.
Local Open Scope ring_scope.

Section AnyArithmetic.

Variables (R : realFieldType) (plus minus mul div : R -> R -> R).
Let A := ordered plus minus mul div.

Lemma loop_from limit q n sum next : all (leq n) (systematic_loop A limit q n sum next).
Proof.
elim: q n sum next => [|x q IH] n sum next //=.
have weaker s t : all (leq n) (systematic_loop A limit q n.+1 s t).
  by apply: sub_all (IH n.+1 s t) => j /ltnW.
by case: ifP => _ /=; [rewrite leqnn weaker | case: ifP => _ /=; rewrite ?leqnn weaker].
Qed.

Lemma loop_below limit q n sum next : all (fun j => j < n + size q)%N (systematic_loop A limit q n sum next).
Proof.
elim: q n sum next => [|x q IH] n sum next //=.
have weaker s t : all (fun j => j < n + (size q).+1)%N (systematic_loop A limit q n.+1 s t).
  by apply: sub_all (IH n.+1 s t) => j; rewrite addSnnS.
have here : (n < n + (size q).+1)%N by rewrite addnS ltnS leq_addr.
by case: ifP => _ /=; [rewrite here weaker | case: ifP => _ /=; rewrite ?here weaker].
Qed.

Lemma loop_sorted limit q n sum next : sorted ltn (systematic_loop A limit q n sum next).
Proof.
elim: q n sum next => [|x q IH] n sum next //=.
have cons s t : sorted ltn (n :: systematic_loop A limit q n.+1 s t).
  by rewrite /= path_min_sorted ?IH //; apply: loop_from.
by case: ifP => _; [apply: cons | case: ifP => _; [apply: cons | apply: IH]].
Qed.

(* No index is kept twice, and the indices ascend. *)
Theorem systematic_sorted q u most : sorted ltn (systematic A q u most).
Proof. exact: loop_sorted. Qed.

Lemma systematic_uniq q u most : uniq (systematic A q u most).
Proof. by apply: sorted_uniq (systematic_sorted q u most); [apply: ltn_trans | apply: ltnn]. Qed.

(* Each entry that is not kept outright and is kept moves `next` by one, and `next` was at most the limit. *)
Lemma loop_cap limit q n sum (first : R) k :
  (forall i, (i < k + size q)%N -> plus (first + i%:R) 1 = first + i.+1%:R) ->
  exists undecided : nat,
    size (systematic_loop A limit q n sum (first + k%:R)) = (undecided + count (fun x => (1 <= x)%R) q)%N
    /\ ((0 < undecided)%N -> first + (k + undecided)%:R - 1 <= limit).
Proof.
elim: q n sum k => [|x q IH] n sum k exactly /=; first by exists 0%N.
case: ifP => [outright | undecided] /=.
  have [|N [size_N below]] := IH n.+1 sum k.
    by move=> i i_lt; apply: exactly; rewrite /= addnS ltnS ltnW.
  by exists N; rewrite size_N /= add1n addnS.
set clipped := if limit < plus sum x then limit else plus sum x.
have clipped_le : clipped <= limit by rewrite /clipped; case: ltP.
case: ifP => [/andP[_ reached] | _] /=.
  have -> : plus (first + k%:R) 1 = first + k.+1%:R.
    by apply: exactly; rewrite /= addnS ltnS leq_addr.
  have [|N [size_N below]] := IH n.+1 clipped k.+1.
    by move=> i; rewrite addSnnS; apply: exactly.
  exists N.+1; split; first by rewrite size_N add0n addSn.
  move=> _; case: N {size_N} below => [_ | N below].
    by rewrite addn1 -natr1 addrA addrK; apply: le_trans reached clipped_le.
  by rewrite addnS -addSn; apply: below.
have [|N [size_N below]] := IH n.+1 clipped k.
  by move=> i i_lt; apply: exactly; rewrite /= addnS ltnS ltnW.
by exists N; rewrite size_N add0n.
Qed.

Lemma count_steps (test : pred R) (xs : seq R) k :
  (forall i, (i < k + size xs)%N -> plus i%:R 1 = i.+1%:R) ->
  foldl (fun n x => if test x then plus n 1 else n) k%:R xs = (k + count test xs)%:R.
Proof.
elim: xs k => [|x xs IH] k /= steps; first by rewrite addn0.
case: (test x); rewrite /= ?add0n ?add1n.
  rewrite steps ?addnS ?ltnS ?leq_addr // IH ?addSn // => i i_lt.
  by apply: steps; rewrite addnS.
by apply: IH => i i_lt; apply: steps; rewrite addnS ltnS ltnW.
Qed.

(* The cap under rounding. Of the arithmetic only this is asked: counting entries is exact, so is going from one
   u + k to the next, and `most - outright` is not rounded above the whole number `cap - outright`. The additions of
   the running sum may return anything. *)
Theorem systematic_cap_rounded (q : seq R) (u most : R) (cap : nat) :
  let outright := count (fun x => 1 <= x) q in
  let first := if u == 0 then 1 else u in
  0 <= u ->
  (forall i, (i < size q)%N -> plus i%:R 1 = i.+1%:R) ->
  (forall i, (i < size q)%N -> plus (first + i%:R) 1 = first + i.+1%:R) ->
  minus most outright%:R <= cap%:R - outright%:R ->
  (outright <= cap)%N ->
  (size (systematic A q u most) <= cap)%N.
Proof.
move=> outright first u_ge0 counts steps limited outright_le.
rewrite /systematic /=.
have -> : count_as_number A (fun x : R => 1 <= x) q = outright%:R.
  by rewrite /count_as_number -[LHS]/(foldl _ 0%:R _) count_steps.
have [|N [size_N below]] := @loop_cap (minus most outright%:R) q 0 0 first 0.
  by move=> i; rewrite add0n; apply: steps.
rewrite addr0 in size_N; rewrite -/first size_N -/outright.
have first_gt0 : 0 < first.
  by rewrite /first; case: eqP => [_ | /eqP u_neq0]; rewrite ?ltr01 // lt_def u_neq0.
case: N {size_N} below => [_ | N below]; first by rewrite add0n.
have := le_trans (below isT) limited.
rewrite add0n -natr1 addrA addrK => bound.
rewrite addSn -(ltr_nat R) natrD; lin (first_gt0, bound).
Qed.

End AnyArithmetic.

Section ExactArithmetic.

Variable R : realFieldType.
Implicit Types (q : seq R) (u most : R).

Notation A := (exact R).

(* C_j: the sum of the first j probabilities, those that are kept outright left out. *)
Definition running_sum q j : R := \sum_(x <- take j q | x < 1) x.

Definition probabilities q := all (fun x => 0 <= x <= 1) q.

Lemma running_sum0 q : running_sum q 0 = 0.
Proof. by rewrite /running_sum take0 big_nil. Qed.

Lemma running_sum_cons x q j : running_sum (x :: q) j.+1 = (if x < 1 then x else 0) + running_sum q j.
Proof. by rewrite /running_sum /= big_cons; case: ifP; rewrite ?add0r. Qed.

Lemma running_sum_ge0 q j : probabilities q -> 0 <= running_sum q j.
Proof.
move=> legal; rewrite /running_sum big_seq_cond; apply: sumr_ge0 => x /andP[x_in _].
by case/andP: (allP legal x (mem_take x_in)).
Qed.

Lemma running_sum_le q j : probabilities q -> running_sum q j <= running_sum q (size q).
Proof.
move=> legal; rewrite {2}/running_sum take_size -{2}(cat_take_drop j q) big_cat /=.
rewrite -/(running_sum q j) ler_addl big_seq_cond; apply: sumr_ge0 => x /andP[x_in _].
by case/andP: (allP legal x (mem_drop x_in)).
Qed.

Lemma running_sumS q j : (j < size q)%N -> nth 0 q j < 1 ->
  running_sum q j.+1 = running_sum q j + nth 0 q j.
Proof.
by move=> j_lt below; rewrite /running_sum (take_nth 0) // -cats1 big_cat /= big_cons big_nil below addr0.
Qed.

Lemma loop_keeps limit q n sum next j :
  probabilities q -> next - 1 <= sum < next -> sum + running_sum q (size q) <= limit -> (j < size q)%N ->
  reflect (1 <= nth 0 q j \/
           exists m : int, sum + running_sum q j < next + m%:~R <= sum + running_sum q j.+1)
          ((n + j)%N \in systematic_loop A limit q n sum next).
Proof.
elim: q n sum next j => [|x q IH] n sum next j //= /andP[/andP[x_ge0 x_le1] legal] /andP[low high].
rewrite running_sum_cons => limited.
have tail_ge0 := running_sum_ge0 (size q) legal.
have absent s t : (n \in systematic_loop A limit q n.+1 s t) = false.
  by apply/negP => /(allP (loop_from _ _ _ _ limit q n.+1 s t)); rewrite ltnn.
case: (leP 1 x) limited => [x_ge1 | x_lt1] limited.
  rewrite in_cons; case: j => [|j] j_lt.
    by rewrite addn0 eqxx /=; apply: ReflectT; left.
  rewrite -addSnnS gtn_eqF ?ltn_addr // orFb !running_sum_cons (le_gtF x_ge1) !add0r.
  by rewrite add0r in limited; apply: IH => //; apply/andP.
have unclipped : (if limit < sum + x then limit else sum + x) = sum + x.
  by rewrite ltNge; have -> : sum + x <= limit by lin (tail_ge0, limited).
rewrite unclipped.
have not_reached : (0 < x) && (next <= sum + x) = false -> next - 1 <= sum + x < next.
  case: ltP => [x_gt0 /negbT | x_le0 _] /=; last by apply/andP; split; [lin (low, x_ge0) | lin (high, x_le0)].
  by rewrite -ltNge => below; apply/andP; split; [lin (low, x_ge0) | exact: below].
have head_iff : (exists m : int, sum + running_sum (x :: q) 0 < next + m%:~R <= sum + running_sum (x :: q) 1)
    <-> (0 < x) && (next <= sum + x).
  rewrite running_sum_cons x_lt1 !running_sum0 !addr0; split=> [[m /andP[above below]] | /andP[x_gt0 reached]].
    have m_ge0 : (0 <= m)%R.
      by rewrite -ltz_addr1 -(ltr_int R); lin (low, above).
    have m_pos : (0 : R) <= m%:~R by rewrite ler0z.
    by apply/andP; split; [lin (high, (m_pos, below)) | lin (m_pos, below)].
  by exists 0; rewrite addr0 high.
case: j => [|j] j_lt.
  rewrite addn0 /=; case: ifP => [kept | dropped]; rewrite ?in_cons ?eqxx ?absent /=.
    by apply: ReflectT; right; apply/head_iff.
  by apply: ReflectF => -[|/head_iff]; rewrite ?dropped // leNgt x_lt1.
rewrite !running_sum_cons x_lt1 !addrA.
have step next' (d : int) : next' - 1 <= sum + x < next' -> next' = next + d%:~R ->
    reflect (1 <= nth 0 q j \/
             exists m : int, sum + x + running_sum q j < next + m%:~R <= sum + x + running_sum q j.+1)
            ((n.+1 + j)%N \in systematic_loop A limit q n.+1 (sum + x) next').
  move=> inside next_eq; apply: (iffP (IH n.+1 (sum + x) next' j legal inside _ j_lt)).
  - by rewrite -addrA.
  - case=> [outright | [m hit]]; [by left | right; exists (d + m)].
    by have -> : next + (d + m)%:~R = next' + m%:~R by rewrite next_eq; ring.
  - case=> [outright | [m hit]]; [by left | right; exists (m - d)].
    by have -> : next' + (m - d)%:~R = next + m%:~R by rewrite next_eq; ring.
rewrite -addSnnS; case: ifP => [/andP[x_gt0 reached] | dropped].
  rewrite in_cons gtn_eqF ?ltn_addr // orFb; apply: (step _ 1); last by [].
  by apply/andP; split; [lin reached | lin (high, x_lt1)].
apply: (step _ 0); last by rewrite addr0.
by apply: not_reached.
Qed.

Lemma loop_count limit q n sum next :
  probabilities q -> next - 1 <= sum < next -> sum + running_sum q (size q) <= limit ->
  let undecided := (size (systematic_loop A limit q n sum next))%:R - (count (fun x => 1 <= x) q)%:R in
  next + undecided - 1 <= sum + running_sum q (size q) < next + undecided.
Proof.
elim: q n sum next => [|x q IH] n sum next /=.
  by rewrite running_sum0 subrr !addr0.
move=> /andP[/andP[x_ge0 x_le1] legal] /andP[low high].
rewrite running_sum_cons => limited.
have tail_ge0 := running_sum_ge0 (size q) legal.
case: (leP 1 x) limited => [x_ge1 | x_lt1] limited /=.
  rewrite add0r in limited *.
  have := IH n.+1 sum next legal _ limited; rewrite low high => /(_ isT).
  by rewrite add1n -!natr1 opprD addrACA subrr addr0.
have -> : (if limit < sum + x then limit else sum + x) = sum + x.
  by rewrite ltNge; have -> : sum + x <= limit by lin (tail_ge0, limited).
rewrite add0n [sum + (x + _)]addrA.
have limited' : sum + x + running_sum q (size q) <= limit by rewrite -addrA.
case: ifP => [/andP[x_gt0 reached] | dropped] /=.
  have inside : next + 1 - 1 <= sum + x < next + 1.
    by apply/andP; split; [lin reached | lin (high, x_lt1)].
  have /andP[at_least below] := IH n.+1 (sum + x) (next + 1) legal inside limited'.
  rewrite -natr1; move: at_least below; set s := (size _)%:R; set c := (count _ _)%:R => at_least below.
  by apply/andP; split; [lin at_least | lin below].
apply: IH => //.
case: ltP dropped => [x_gt0 /negbT | x_le0 _] /=; last by apply/andP; split; [lin (low, x_ge0) | lin (high, x_le0)].
by rewrite -ltNge => below; apply/andP; split; [lin (low, x_ge0) | exact: below].
Qed.

Lemma sum_outright q : probabilities q ->
  \sum_(x <- q) x = (count (fun x => 1 <= x) q)%:R + running_sum q (size q).
Proof.
elim: q => [|x q IH] /=; first by rewrite big_nil running_sum0 addr0.
move=> /andP[/andP[x_ge0 x_le1] legal]; rewrite big_cons IH // running_sum_cons natrD.
case: (leP 1 x) => [x_ge1 | x_lt1] /=; last by ring.
have -> : x = 1 by apply/eqP; rewrite eq_le x_le1.
by ring.
Qed.

Section Draw.

Variables (q : seq R) (u most : R).
Hypothesis legal : probabilities q.
Hypothesis u_range : 0 <= u < 1.
Hypothesis enough : \sum_(x <- q) x <= most.

Let limit := most - (count (fun x => 1 <= x) q)%:R.
Let first : R := if u == 0 then 1 else u.

Lemma first_range : first - 1 <= 0 < first.
Proof.
have /andP[u_ge0 u_lt1] := u_range.
rewrite /first; case: eqP => [_ | /eqP u_neq0]; first by rewrite subrr lexx ltr01.
by rewrite lt_def u_neq0 u_ge0 subr_le0 ltW.
Qed.

Lemma limit_enough : 0 + running_sum q (size q) <= limit.
Proof. by rewrite add0r /limit ler_subr_addl -sum_outright. Qed.

Lemma systematic_unfold : systematic A q u most = systematic_loop A limit q 0 0 first.
Proof. by rewrite /systematic count_as_number_exact. Qed.

(* The definition of SPEC section 3: j is kept iff q_j = 1, or an integer lies in (C_{j-1} - u, C_j - u]. *)
Theorem systematic_keeps j : (j < size q)%N ->
  reflect (1 <= nth 0 q j \/
           exists m : int, running_sum q j - u < m%:~R <= running_sum q j.+1 - u)
          (j \in systematic A q u most).
Proof.
move=> j_lt; rewrite systematic_unfold -[j in j \in _]add0n.
apply: (iffP (loop_keeps 0 legal first_range limit_enough j_lt)); rewrite !add0r.
  case=> [? | [m /andP[above below]]]; [by left | right].
  rewrite /first in above below; move: above below; case: eqP => [-> | _] above below.
    by exists (1 + m); rewrite intrD !subr0 above.
  by exists m; apply/andP; split; [lin above | lin below].
case=> [? | [m /andP[above below]]]; [by left | right].
rewrite /first; case: eqP => [u0 | _].
  by exists (m - 1); move: above below; rewrite u0 rmorphB !subr0 addrC subrK => -> ->.
by exists m; apply/andP; split; [lin above | lin below].
Qed.

(* `nnz` is strictly within 1 of the sum of q, so it is its floor or its ceiling. *)
Theorem systematic_count :
  \sum_(x <- q) x - 1 < (size (systematic A q u most))%:R < \sum_(x <- q) x + 1.
Proof.
rewrite sum_outright // systematic_unfold.
have := loop_count 0 legal first_range limit_enough; rewrite add0r.
set s := (size _)%:R; set c := (count _ _)%:R => /= /andP[low high].
have /andP[first_le1 first_gt0] := first_range.
by apply/andP; split; [lin (high, first_le1)| lin (low, first_gt0)].
Qed.

(* `nnz <= ceil(most)`: it is at most every whole number that is at least `most`. *)
Theorem systematic_cap (cap : nat) : most <= cap%:R -> (size (systematic A q u most) <= cap)%N.
Proof.
move=> most_le; apply: systematic_cap_rounded; rewrite ?ler_add2r //.
- by case/andP: u_range.
- by move=> i _; rewrite natr1.
- by move=> i _; rewrite -addrA natr1.
rewrite -(ler_nat R); apply: le_trans most_le; apply: le_trans enough.
by rewrite sum_outright // ler_addl running_sum_ge0.
Qed.

End Draw.

(* The draws of a grid. With M words, u = k/M for k = 0, ..., M - 1. *)
Section Grid.

Variables (q : seq R) (most : R) (M : nat).
Hypothesis legal : probabilities q.
Hypothesis enough : \sum_(x <- q) x <= most.
Hypothesis M_gt0 : (0 < M)%N.

Definition draws_that_keep j : nat := #|[pred k : 'I_M | j \in systematic A q (k%:R / M%:R) most]|.

Let M_pos : (0 : R) < M%:R. Proof. by rewrite ltr0n. Qed.

Lemma grid_range (k : 'I_M) : 0 <= (k%:R / M%:R : R) < 1.
Proof. by rewrite divr_ge0 ?ler0n //= ltr_pdivr_mulr // mul1r ltr_nat. Qed.

Lemma keeps_outright j : (j < size q)%N -> 1 <= nth 0 q j -> draws_that_keep j = M.
Proof.
move=> j_lt outright; rewrite /draws_that_keep -[RHS]card_ord; apply: eq_card => k; rewrite !inE.
by apply/systematic_keeps => //; [apply: grid_range | left].
Qed.

(* The number of whole numbers in (C_{j-1} M, C_j M], where a and b are the floors of the two ends. *)
Lemma keeps_between j a b : (j < size q)%N -> nth 0 q j < 1 ->
  a%:R <= running_sum q j * M%:R < a.+1%:R -> b%:R <= running_sum q j.+1 * M%:R < b.+1%:R ->
  draws_that_keep j = (b - a)%N.
Proof.
move=> j_lt below /andP[a_le a_gt] /andP[b_le b_gt].
have q_ge0 : 0 <= nth 0 q j by case/andP: (all_nthP 0 legal j j_lt).
have width : running_sum q j.+1 * M%:R = running_sum q j * M%:R + nth 0 q j * M%:R.
  by rewrite running_sumS // mulrDl.
have wide : (b - a <= M)%N.
  rewrite leq_subLR -ltnS -(ltr_nat R) -addSn natrD; apply: le_lt_trans b_le _; rewrite width.
  apply: ltr_le_add => //; rewrite ger_pmull //; exact: ltW.
pose point (n : 'I_(b - a)) : 'I_M := Ordinal (ltn_pmod (a.+1 + n) M_gt0).
have point_inj : injective point.
  move=> n n' /(congr1 val)/= /eqP; rewrite eqn_modDl => /eqP.
  rewrite !modn_small; first (by apply: val_inj); exact: leq_trans (ltn_ord _) wide.
rewrite -[RHS]card_ord -(card_imset _ point_inj); apply: eq_card => k; rewrite inE.
apply/systematic_keeps/imsetP => //; first exact: grid_range.
  case=> [|[m /andP[above up_to]]]; first by rewrite leNgt below.
  have {}above : running_sum q j * M%:R < k%:R + m%:~R * M%:R.
    by move: above; rewrite ltr_subl_addr -(ltr_pmul2r M_pos) mulrDl mulfVK ?gt_eqF // addrC.
  have {}up_to : k%:R + m%:~R * M%:R <= running_sum q j.+1 * M%:R.
    by move: up_to; rewrite ler_subr_addr -(ler_pmul2r M_pos) mulrDl mulfVK ?gt_eqF // addrC.
  have m_ge0 : (0 <= m)%R.
    case: m above {up_to} => // m; rewrite NegzE mulrNz mulNr -pmulrn => above; exfalso.
    have k_lt : (k%:R : R) < M%:R by rewrite ltr_nat.
    have down : M%:R <= m.+1%:R * M%:R :> R by rewrite -natrM ler_nat leq_pmull.
    have up : 0 <= running_sum q j * M%:R by rewrite mulr_ge0 ?running_sum_ge0 ?ler0n.
    by lin (up, (down, (above, k_lt))).
  case: m m_ge0 above up_to => // m _ /=; rewrite -pmulrn -natrM -natrD => above up_to.
  have a_lt : (a < k + m * M)%N by rewrite -(ltr_nat R); apply: le_lt_trans a_le above.
  have le_b : (k + m * M < b.+1)%N by rewrite -(ltr_nat R); apply: le_lt_trans up_to b_gt.
  have n_lt : (k + m * M - a.+1 < b - a)%N.
    by rewrite ltn_subLR // addSn subnKC // (leq_trans (ltnW a_lt)).
  exists (Ordinal n_lt) => //; apply: val_inj => /=.
  by rewrite subnKC // addnC modnMDl modn_small.
case=> n _ k_eq; right; exists ((a.+1 + n) %/ M)%N.
have -> : (k%:R : R) = (a.+1 + n)%:R - ((a.+1 + n) %/ M)%:R * M%:R.
  by rewrite k_eq /= {2}(divn_eq (a.+1 + n) M) natrD natrM; ring.
rewrite mulrBl mulfK ?gt_eqF // -pmulrn; set m := (_ %/ M)%:R; set x := _ / M%:R.
have shift C : C - (x - m) = m + (C - x) by ring.
rewrite !shift gtr_addl ler_addl /x.
have n_le : (a.+1 + n <= b)%N by rewrite addSn -ltn_subRL.
rewrite subr_lt0 subr_ge0 ltr_pdivl_mulr // ler_pdivr_mulr //; apply/andP; split.
  by apply: lt_le_trans a_gt _; rewrite ler_nat leq_addr.
by apply: le_trans b_le; rewrite ler_nat.
Qed.

(* The number of k < M whose draw keeps j is exactly q_j M, when every running sum of q is a multiple of 1/M. *)
Theorem systematic_grid j :
  (forall i, (i <= size q)%N -> exists n : nat, running_sum q i * M%:R = n%:R) ->
  (j < size q)%N -> (draws_that_keep j)%:R = nth 0 q j * M%:R.
Proof.
move=> on_grid j_lt; case: (ltP (nth 0 q j) 1) => [below | outright].
  have [a a_eq] := on_grid j (ltnW j_lt); have [b b_eq] := on_grid j.+1 j_lt.
  have width : running_sum q j.+1 * M%:R = running_sum q j * M%:R + nth 0 q j * M%:R.
    by rewrite running_sumS // mulrDl.
  rewrite (keeps_between (a := a) (b := b)) ?a_eq ?b_eq ?lexx ?ltr_nat ?ltnSn //.
  have q_ge0 : 0 <= nth 0 q j by case/andP: (all_nthP 0 legal j j_lt).
  have a_le_b : (a <= b)%N by rewrite -(ler_nat R) -a_eq -b_eq width ler_addl mulr_ge0 ?ler0n.
  by rewrite natrB // -a_eq -b_eq width addrC addKr.
rewrite keeps_outright //; have /andP[_ q_le1] := all_nthP 0 legal j j_lt.
have q_eq1 : nth 0 q j = 1 by apply/eqP; rewrite eq_le q_le1.
by rewrite q_eq1 mul1r.
Qed.

Lemma floor_exists (x : R) (n : nat) : 0 <= x -> x < n%:R -> exists a : nat, a%:R <= x < a.+1%:R.
Proof.
move=> x_ge0; elim: n => [|n IH] x_lt; first by move: x_lt; rewrite ltNge x_ge0.
by case: (ltP x n%:R) => [/IH | n_le] //; exists n; rewrite n_le.
Qed.

Lemma running_sum_lt i : running_sum q i < (size q).+1%:R.
Proof.
rewrite /running_sum; have : all (fun x => x <= 1) (take i q).
  by apply/allP => x /mem_take /(allP legal)/andP[].
have : (size (take i q) < (size q).+1)%N by rewrite ltnS size_take; case: ltnP => // /ltnW.
rewrite -(ltr_nat R); move: (_.+1)%:R => bound.
elim: (take i q) bound => [|x xs IH] bound /=; first by rewrite big_nil.
rewrite -natr1 big_cons /= => size_lt /andP[x_le1 small].
have size_lt' : (size xs)%:R < bound - 1 by lin size_lt.
have rest := IH _ size_lt' small.
have -> : bound = 1 + (bound - 1) by ring.
by case: ifP => _; [apply: ler_lt_add | apply: ltr_paddl].
Qed.

(* On any grid the number of draws that keep j is strictly within 1 of q_j M: a 32-bit word gives a probability
   strictly within 2^-32 of q_j, whatever q is. *)
Theorem systematic_near j : (j < size q)%N ->
  nth 0 q j * M%:R - 1 < (draws_that_keep j)%:R < nth 0 q j * M%:R + 1.
Proof.
move=> j_lt; have /andP[q_ge0 q_le1] := all_nthP 0 legal j j_lt.
case: (ltP (nth 0 q j) 1) => [below | outright]; last first.
  rewrite keeps_outright //; have -> : nth 0 q j = 1 by apply/eqP; rewrite eq_le q_le1.
  by rewrite mul1r ltr_addl ltr_subl_addr ltr_addl ltr01.
have floor i : exists a : nat, a%:R <= running_sum q i * M%:R < a.+1%:R.
  apply: (@floor_exists _ ((size q).+1 * M)); first by rewrite mulr_ge0 ?running_sum_ge0 ?ler0n.
  by rewrite natrM ltr_pmul2r // running_sum_lt.
have [a a_floor] := floor j; have [b b_floor] := floor j.+1.
rewrite (keeps_between (a := a) (b := b)) //.
have width : running_sum q j.+1 * M%:R = running_sum q j * M%:R + nth 0 q j * M%:R.
  by rewrite running_sumS // mulrDl.
move: a_floor b_floor; rewrite width -!natr1 => /andP[a_le a_gt] /andP[b_le b_gt].
have q_M : 0 <= nth 0 q j * M%:R by rewrite mulr_ge0 ?ler0n.
have a_le_b : (a <= b)%N.
  by rewrite -ltnS -(ltr_nat R) -natr1; lin (a_le, (b_gt, q_M)).
rewrite natrB //; apply/andP; split; [lin (a_le, b_gt) | lin (b_le, a_gt)].
Qed.

End Grid.

End ExactArithmetic.
