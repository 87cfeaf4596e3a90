"""`TripletDataset`: what a notebook and a PyTorch loader get."""

import pickle
import shutil
from contextlib import contextmanager

import h5py
import numpy as np
import pytest

from astrid_assets.errors import AstridError
from astrid_assets.storage.store import Store
from astrid_assets.training import TripletDataset
from astrid_assets.training.release import FieldSamples, ReleaseOptions, plan_release, write_release
from astrid_assets.training.views import model_view
from astrid_assets_tests.training.samples import write_field


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A release with the id of its folder, and `latest.json` beside it."""
    store = Store(str(tmp_path_factory.mktemp("data")))
    fields = []
    for number, (name, n) in enumerate({"a": 10, "b": 40, "c": 7}.items()):
        table = write_field(store, name, ra=20.0 + 100 * number, n=n, seed=number, labels=(1, 0, 0, -1))
        folder = store.path(store.folder("training_set", name))
        fields.append(FieldSamples(name, table, lambda file, folder=folder: (folder / file).open("rb")))
    plan = plan_release(fields, ReleaseOptions(), release_id="abc", config={})
    folder = tmp_path_factory.mktemp("releases")
    (folder / "abc").mkdir()
    (folder / "latest.json").write_text('{"release_id": "abc"}')

    @contextmanager
    def create(name):
        with (folder / "abc" / name).open("w+b") as stream:
            yield stream

    write_release(plan, fields, create)
    return folder / "abc"


def test_three_lines(release):
    train = TripletDataset(release, "train", view="l2", size=63)
    stamps, labels = train[:5]
    assert stamps.shape == (5, 3, 63, 63)
    assert stamps.dtype == np.float32
    assert labels.tolist() == train.catalog["label"].to_pylist()[:5]


def test_items_are_views_of_the_file(release):
    data = TripletDataset(release, "test", view="asinh", size=64, return_mask=True)
    with h5py.File(release / "test.h5") as file:
        rows = data.catalog["h5_row"].to_numpy()
        stamps, mask = file["triplet"][...][rows], file["mask"][...][rows]
    values, labels, masks = data[:]
    np.testing.assert_array_equal(values, model_view(stamps, view="asinh", size=64, mask=mask)[0])
    np.testing.assert_array_equal(masks, mask[..., :64, :64])
    np.testing.assert_array_equal(data[:][0], values)  # background and scale were kept
    one, label, marks = data[3]
    np.testing.assert_array_equal(one, values[3])
    np.testing.assert_array_equal(marks, masks[3])
    assert label == labels[3]


def test_stamps_as_stored(release):
    data = TripletDataset(release, "test", view=None, size=65)
    with h5py.File(release / "test.h5") as file:
        np.testing.assert_array_equal(data[:][0], file["triplet"][...][data.catalog["h5_row"].to_numpy()])


@pytest.mark.parametrize(
    "index", [slice(2, 9, 3), np.array([5, 0, 5]), [4, 1], np.int64(2), -1, slice(0, 0)], ids=repr
)
def test_any_index_gives_the_items_it_names(release, index):
    data = TripletDataset(release, "train")
    values, labels = data[:]
    some, some_labels = data[index]
    np.testing.assert_array_equal(some, values[index])
    np.testing.assert_array_equal(some_labels, labels[index])


def test_boolean_arrays_select(release):
    data = TripletDataset(release, "train")
    stamps, labels = data[data.labels == 1]
    assert len(stamps) == (data.labels == 1).sum()
    assert set(labels) == {1}


def test_the_end_is_an_index_error(release):
    data = TripletDataset(release, "train")
    with pytest.raises(IndexError):
        data[len(data)]
    assert len(list(data)) == len(data)


def test_unlabelled_is_left_out_unless_asked(release):
    data = TripletDataset(release, "train")
    assert set(data.labels) == {0, 1}
    everything = TripletDataset(release, "train", labels=("real", "bogus", "unlabelled"))
    assert set(everything.labels) == {-1, 0, 1}
    assert len(TripletDataset(release, "train", labels=["bogus"])) == (data.labels == 0).sum()


def test_the_loader_gives_everything_once(release):
    data = TripletDataset(release, "train")
    batches = list(data.loader(16, seed=3))
    assert [len(labels) for _, labels in batches][:-1] == [16] * (len(data) // 16)
    stamps = np.concatenate([part for part, _ in batches])
    assert {s.tobytes() for s in stamps} == {s.tobytes() for s in data[:][0]}
    again = np.concatenate([part for part, _ in data.loader(16, seed=3)])
    np.testing.assert_array_equal(again, stamps)
    other = np.concatenate([part for part, _ in data.loader(16, seed=4)])
    assert not np.array_equal(other, stamps)


def test_balanced_batches(release):
    data = TripletDataset(release, "train")
    labels = np.concatenate([part for _, part in data.loader(16, balanced=True)])
    assert (labels == 1).sum() == (labels == 0).sum() == (data.labels == 0).sum()


def test_turned_stamps_keep_their_centre_and_values(release):
    plain = TripletDataset(release, "train", return_mask=True)
    turned = TripletDataset(release, "train", return_mask=True, augment="d4")
    before, after = plain[:], turned[:]
    np.testing.assert_array_equal(after[1], before[1])
    np.testing.assert_array_equal(after[0][..., 31, 31], before[0][..., 31, 31])
    np.testing.assert_array_equal(np.sort(after[0], axis=None), np.sort(before[0], axis=None))
    assert not np.array_equal(after[0], before[0])
    # the mask turns with its stamp
    np.testing.assert_array_equal(after[2] == 2, (after[0] == 0) & (after[2] == 2))
    # each of the eight ways occurs, and all channels go the same way
    ways = {tuple(np.unravel_index(s[0, :2, :3].argmax(), (2, 3))) for s in after[0]}
    assert len(ways) > 1
    corners = {s[2, 0, 0].tobytes() for s in turned[np.zeros(200, int)][0]}
    assert len(corners) == 4


def test_the_latest_release_is_found(release):
    assert TripletDataset(release.parent, "test").path == release


def test_tiles(release):
    images, truth = TripletDataset(release, "train").tiles()
    assert images.shape[1:] == (3, 256, 256)
    assert truth.shape == (len(images), 256, 256)
    assert len(images) == 2


def test_it_can_be_sent_to_a_process(release):
    data = TripletDataset(release, "test")
    values = data[:][0]
    sent = pickle.loads(pickle.dumps(data))  # noqa: S301 - its own words
    np.testing.assert_array_equal(sent[:][0], values)


def test_files_that_were_packed_again(release, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(release, copy)
    with h5py.File(release / "test.h5") as old, h5py.File(copy / "test.h5", "w") as new:
        for name in ("triplet", "mask"):
            new.create_dataset(name, data=old[name][...], compression="gzip")
    np.testing.assert_array_equal(TripletDataset(copy, "test")[:][0], TripletDataset(release, "test")[:][0])


@pytest.mark.slow
def test_torch_loads_it(release):
    torch = pytest.importorskip("torch")
    data = TripletDataset(release, "train")
    batches = list(torch.utils.data.DataLoader(data, batch_size=8, shuffle=False))
    assert batches[0][0].shape == (8, 3, 63, 63)
    assert batches[0][0].dtype == torch.float32
    np.testing.assert_array_equal(np.concatenate([b[1].numpy() for b in batches]), data.labels)
    stamps, label = data.to_torch()[2]
    np.testing.assert_array_equal(stamps.numpy(), data[2][0])
    assert int(label) == data.labels[2]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"split": "dev"}, "no split 'dev'; there are train, validation, test"),
        ({"view": "zscale"}, "no view 'zscale'"),
        ({"augment": "mixup"}, "no augment"),
        ({"labels": ["good"]}, "no label 'good'; there are real, bogus, unlabelled"),
    ],
)
def test_wrong_choices_are_named(release, options, text):
    with pytest.raises(AstridError, match=text):
        TripletDataset(release, **options)


def test_a_folder_without_release(tmp_path):
    with pytest.raises(AstridError, match="holds no release"):
        TripletDataset(tmp_path)
